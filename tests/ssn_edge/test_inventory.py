"""Every file once, with its use or the reason for none."""

from pathlib import Path

from ssn_edge import inventory
from ssn_edge.inventory import Reason, Row


def test_every_file_once(tmp_path):
    for name in ("a.png", "sub/b.png", "sub/.hidden", ".git/config", "Thumbs.db", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    rows = inventory.account(tmp_path, {tmp_path / "a.png": "judged"}, lambda path: Reason(path.suffix, True))
    assert {row.text: sorted(path.name for path in row.files) for row in rows} == {
        "judged": ["a.png"], ".png": ["b.png"], ".txt": ["c.txt"], "": ["loop"],
        "hidden files": [".hidden", "Thumbs.db", "config"],
    }
    assert [row.used for row in rows] == [True, False, False, False, False]


def test_table_and_alarm():
    root = Path("data")
    rows = [
        Row("judged", (root / "a.png",), True),
        Row("in other folders", tuple(root / f"x/{n}.png" for n in range(5)), False, True),
        Row("scattered", (root / "p/1", root / "q/2"), False),
        Row("hidden files", (root / ".a",), False),
    ]
    assert inventory.table(root, rows) == [
        "      1  judged            a.png",
        " not used:",
        "      5  in other folders  x/ (0.png, 1.png, 2.png, ...)",
        "      2  scattered         p/1, q/2",
        "      1  hidden files",
    ]
    assert inventory.alarm(root, rows) == (
        "data: not used: in other folders (5): x/ (0.png, 1.png, 2.png, ...)"
    )
    assert inventory.alarm(root, rows[:1]) == "" and inventory.table(root, []) == []


def test_videos_are_likelier_meant_than_notes():
    assert inventory.unknown(Path("a.MP4")).alarming and not inventory.unknown(Path("a")).alarming
