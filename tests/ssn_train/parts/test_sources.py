"""What names the parts: an expression, a table, or the groups that came with the data."""

import json

import pytest

from ssn_edge.errors import InputError
from ssn_edge.verdict import calibrating
from ssn_train.parts import sources

FILES = ["good/sn1_top.png", "good/sn1_side.png", "good/sn2_top.png", "bad/crack/sn2_side.png"]


@pytest.fixture
def root(tmp_path):
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(root, chosen=None, files=FILES):
    parts = sources.find(root, chosen, root)
    found = parts.names(root, [root / name for name in files])
    return parts.source, [found[root / name] for name in files]


@pytest.mark.parametrize("expression, expected", [
    (r"sn\d", ["sn1", "sn1", "sn2", "sn2"]),
    (r"sn(\d)", ["1", "1", "2", "2"]),
    (r"(s)n(\d)", ["s-1", "s-1", "s-2", "s-2"]),
    (r"(x)?n(\d)", ["1", "1", "2", "2"]),
    (r"^sn._[a-z]+", ["sn1_top", "sn1_side", "sn2_top", "sn2_side"]),
    (r"^(\w+)/.*(\d)_", ["good-1", "good-1", "good-2", "bad-2"]),
    (r"[^/]+/", ["good/", "good/", "good/", "bad/"]),
])
def test_expressions(root, expression, expected):
    assert names(root, expression) == ("--part", expected)


@pytest.mark.parametrize("expression, message", [
    (r"sn1", r"--part: no part for good/sn2_top.png \(the first of 2 such photos\); change REGEX"),
    (r"z*", "no part for good/sn1_top.png"),
    (r"(z)?sn", "no part for good/sn1_top.png"),
    (r"good", "no part for"),
    (r"(", r"--part \(: no regular expression"),
])
def test_expressions_that_are_none_or_leave_photos_out(root, expression, message):
    with pytest.raises(InputError, match=message):
        names(root, expression)


def test_a_table_in_the_folder_comes_before_the_lists(root):
    groups = {"groups": {name: i for i, name in enumerate(FILES)}}
    (root / "split.json").write_text(json.dumps(groups))
    assert names(root) == ("split.json", ["0", "1", "2", "3"])
    lines = [f"{name},{name[:4]}" for name in FILES]
    (root / "parts.csv").write_text("\n".join(["file,part", *lines]))
    assert names(root) == ("parts.csv", ["good", "good", "good", "bad/"])
    assert names(root, r"sn\d")[0] == "--part"
    assert sources.find(root, r"sn\d", root).unused == {root / "parts.csv": sources.OVERRULED}


def test_a_table_elsewhere(root, tmp_path_factory):
    path = tmp_path_factory.mktemp("elsewhere") / "Mine.CSV"
    path.write_text("file,part\n" + "".join(f"{name},a\n" for name in FILES))
    assert names(root, str(path)) == ("--part", ["a"] * 4)


def test_the_folders_own_table_named_by_another_way_is_used(root, monkeypatch):
    (root / "parts.csv").write_text("file,part\n" + "".join(f"{name},a\n" for name in FILES))
    monkeypatch.chdir(root)
    parts = sources.find(root, "good/../parts.csv", root)
    assert (parts.used, parts.unused) == ({root / "parts.csv": "parts"}, {})


def test_tables_that_do_not_fit_the_photos(root):
    (root / "parts.csv").write_text(f"file,part\n{FILES[0]},a\n")
    with pytest.raises(InputError, match=r"parts.csv: no part for good/sn1_side.png \(the first of 3"):
        names(root)
    (root / "parts.csv").write_text("file,part\ngood/x.png,a\ngood/y.png,a\n")
    with pytest.raises(InputError, match=r"lists good/x.png, which is not in .* \(the first of 2\)"):
        names(root)


def test_a_table_above_the_photos_is_not_passed_over(root):
    (root / "parts.csv").write_text("file,part\n")
    with pytest.raises(InputError, match="belongs into .*good"):
        sources.find(root / "good", None, root)


@pytest.mark.parametrize("content", [
    '{"groups": []}', '{"groups": {"a.png": 1.5}}', '{"groups": {"a.png": true}}',
    '{"groups": {"a.png": ""}}', '["groups"]', '{"groups"', '{"groups": ' + "[" * 100_000,
])
def test_groups_that_are_none(root, content):
    (root / "split.json").write_text(content)
    with pytest.raises(InputError, match='split.json: expected "groups"'):
        names(root)


@pytest.mark.parametrize("content", ["{}", "no JSON", '{"train": ["a.png"]}'])
def test_other_lists_of_that_name_say_nothing_of_parts(root, content):
    (root / "split.json").write_text(content)
    assert names(root) == ("", [""] * 4)


def test_counting():
    assert calibrating.count(["a", "", "b", "a", ""]) == 4
