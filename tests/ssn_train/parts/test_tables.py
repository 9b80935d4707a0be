"""The table of parts: what is read, what is refused, and that it reads what it wrote."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge.errors import InputError
from ssn_train.parts import tables


def table(tmp_path, content):
    path = tmp_path / "parts.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_table_as_a_spreadsheet_saves_it(tmp_path):
    """With a mark in front, CRLF, quotes, spaces and empty lines."""
    content = '\ufefffile,part\r\ngood/a.png, 7\r\n\r\n"b, c.png",x-1\r\n./good//a.png,7\r\n'
    path = table(tmp_path, content)
    assert tables.read(path) == {"good/a.png": "7", "b, c.png": "x-1"}


@pytest.mark.parametrize("content, message", [
    ("", "expected the header file,part, found nothing"),
    ("file;part\na.png;1\n", "expected the header file,part, found file;part"),
    ("part,file\n", "found part,file"),
    ("file,part\na.png\n", "line 2 is not FILE,PART"),
    ("file,part\na.png,1,2\n", "line 2 is not FILE,PART"),
    ("file,part\na.png,1\nb.png, \n", "line 3 is not FILE,PART"),
    ("file,part\na.png,1\na.png,2\n", "a.png is of part 1 and of 2"),
    ("file,part\n../a.png,1\n", "leads out of the folder"),
    ("file,part\n/a.png,1\n", "leads out of the folder"),
    ('file,part\n"a.png,1\n', "no CSV"),
    (b"file,part\na.png,\xe4\n", "not UTF-8"),
    ("file,part\n".encode("utf-16"), "expected the header"),
    ("file,part\n" + "x" * (1 << 18) + ",1\n", "no CSV"),
    ("file,part\n" + "\n" * (16 << 20), "more than 16 MiB"),
])
def test_what_is_refused_in_one_line(tmp_path, content, message):
    path = table(tmp_path, content)
    with pytest.raises(InputError, match=message) as caught:
        tables.read(path)
    assert "\n" not in str(caught.value) and "parts.csv" in str(caught.value)


def test_no_such_table(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        tables.read(tmp_path / "none.csv")


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name.strip() and name not in (".", "..")
)
WORDS = st.text(st.characters(categories=["L", "N", "P"]), min_size=1)


@given(parts=st.dictionaries(NAMES, WORDS))
def test_what_was_written_is_read(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("t") / "parts.csv"
    tables.write(path, parts)
    assert tables.read(path) == parts


def test_names_that_are_not_utf8_come_back(tmp_path):
    path = tmp_path / "parts.csv"
    tables.write(path, {"\udce4.png": "1"})
    assert b"\xe4.png,1" in path.read_bytes() and tables.read(path) == {"\udce4.png": "1"}
