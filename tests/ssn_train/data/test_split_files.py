"""Split files give back lists of numbers and names, and run nothing."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge.errors import InputError
from ssn_train.data import split_files

plain = st.recursive(
    st.integers() | st.booleans() | st.text(max_size=8),
    lambda part: st.lists(part, max_size=4) | st.tuples(part, part),
    max_leaves=20,
)


@given(content=plain, protocol=st.integers(0, 5))
def test_split_files_give_back_plain_lists(tmp_path_factory, content, protocol):
    path = tmp_path_factory.mktemp("split") / "a.pckl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    try:
        assert split_files.load(path) == content
    except InputError as error:
        assert "lists" in str(error) and _depth(content) > split_files.MAX_DEPTH


def _depth(value):
    return 1 + max(map(_depth, value), default=0) if isinstance(value, (list, tuple)) else 0


class Touch:
    """Unpickled by the ordinary unpickler, this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_split_files_run_nothing(tmp_path):
    for content in ([Touch(tmp_path / "made")], [np.int64(3)], [1.5], [{"a": 1}], [None], [b"x"], [1j]):
        path = tmp_path / "split.pckl"
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(InputError, match="lists of numbers and names"):
            split_files.load(path)
    assert not (tmp_path / "made").exists()
    shared = [1] * 100
    for _ in range(6):  # 100^6 entries to walk, if each were walked
        shared = [shared] * 100
    path.write_bytes(pickle.dumps(shared))
    assert split_files.load(path)[0][0][0] == split_files.load(path)[9][9][9]
    endless = []
    endless.append(endless)
    path.write_bytes(pickle.dumps(endless))
    with pytest.raises(InputError):
        split_files.load(path)
    for damaged in (b"", b"garbage", pickle.dumps([1, 2, 3])[:-4], b"\x80\x05" + b"]" * 9):
        path.write_bytes(damaged)
        with pytest.raises(InputError):
            split_files.load(path)
