"""Names of pictures: one a frame, inside the folder, whatever frames are called."""

import dataclasses
import os
import re
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge.line import sinks
from ssn_edge.sources import Frame

DARK, BRIGHT = np.full((64, 96, 3), 20, np.uint8), np.full((64, 96, 3), 250, np.uint8)


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("names", [
    ["x.png", "x.bmp", "x.jpg"], ["a-b/c", "a/b-c"], ["lot/x.png", "lot-x.bmp", "lot-x"],
    ["/no/x.png", "//no/x.png"], ["../../x.png", "..", "x", ".x.png", "a/../x.png"], ["x.png"] * 5,
    ["é" * 200 + ".png", "é" * 200 + ".bmp", "é" * 199 + "e.png"],
    ["a\0b.png", "a/b.png"], ["\udcff.png", "\ud800.png"],
])
@pytest.mark.parametrize("defects_only", [False, True])
def test_every_picture_has_a_name_of_its_own_inside_the_folder(judged, tmp_path, names, defects_only):
    sink = sinks.Pictures(tmp_path / "deep" / "out", 100.0, defects_only)
    for name in names:
        sink.write(judged(name))
    everywhere = files_in(tmp_path)
    assert len(everywhere) == len(names)
    suffix = ".png" if defects_only else ".jpg"
    for name in everywhere:
        assert re.fullmatch(r"deep/out/[^./][^/]*", name) and name.endswith(suffix)


@settings(max_examples=25, deadline=None)
@given(names=st.lists(st.one_of(
    st.text(max_size=400),
    st.text(alphabet="./\\\0ab", max_size=6),
    st.builds(
        lambda folders, stem, suffix: "/".join([*folders, stem]) + suffix,
        st.lists(st.sampled_from(["", "..", ".", "a", "a-b"]), max_size=3),
        st.sampled_from(["x", "b-x", "a" * 300, "é" * 130]),
        st.sampled_from(["", ".png", ".BMP", ".v2"]),
    ),
), max_size=8), earlier=st.sets(st.sampled_from(["x.jpg", "a-x.jpg", "x.png.jpg"])))
def test_any_names_give_as_many_files_as_frames(judged, names, earlier):
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "a" / "b" / "out"
        folder.mkdir(parents=True)
        for name in earlier:
            (folder / name).write_bytes(b"earlier")
        sink = sinks.Pictures(folder, 100.0)
        for name in names:
            sink.write(judged(name))
        pictures = [name for name, data in files_in(Path(root)).items() if data != b"earlier"]
        assert len(pictures) == len(names) and all(name.startswith("a/b/out/") for name in pictures)


def test_suffixes_and_times_tell_pictures_apart(judged, tmp_path):
    sink = sinks.Pictures(tmp_path, 100.0)
    for name in ("x.png", "x.bmp", "x.bmp", "x.bmp", "x.bmp"):
        sink.write(judged(name, time=12.345))
    expected = ["x.jpg", "x.bmp.jpg", "x.bmp-12345.jpg", "x.bmp-12345-2.jpg", "x.bmp-12345-3.jpg"]
    assert sorted(files_in(tmp_path)) == sorted(expected)


def test_a_second_run_replaces_the_pictures_of_the_first_once(judged, tmp_path):
    for level in (50, 250):
        sink = sinks.Pictures(tmp_path, 100.0)
        for name in ("x.png", "x.bmp", "y.png"):
            result = judged(name)
            sink.write(dataclasses.replace(result, frame=Frame(name, np.full_like(BRIGHT, level), 0.0)))
    assert sorted(files_in(tmp_path)) == ["x.bmp.jpg", "x.jpg", "y.jpg"]
    assert all(cv2.imread(str(path))[0, 0].max() > 100 for path in tmp_path.iterdir())


def test_the_same_name_for_weeks_is_found_at_once(judged, tmp_path, monkeypatch):
    looked, real = [], os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda path: looked.append(path) or real(path))
    sink = sinks.Pictures(tmp_path, 100.0)
    for number in range(60):
        sink.write(judged("x.png", time=float(number // 30)))
    assert len(files_in(tmp_path)) == 60 and len(looked) <= 5 * 60
