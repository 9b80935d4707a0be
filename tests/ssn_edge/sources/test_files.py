"""Folders, patterns and several paths: what is judged, in which order, and what is not and why."""

import cv2
import numpy as np
import pytest
from clips import LEVELS, clip, jpeg

from ssn_edge import InputError, sources
from ssn_edge.frames import jpeg as jpeg_decoder
from ssn_edge.frames.decoding import Reading


def names(*specs):
    import threading

    return [frame.name for frame in sources.find_all(list(map(str, specs))).open(threading.Event())]


@pytest.fixture
def mixed(tmp_path):
    """Two images, a video between them, and what is not judged."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(jpeg(50))
    clip(folder / "b.avi", levels=LEVELS[:2])
    (folder / "c.jpg").write_bytes(jpeg(50))
    (folder / "sub" / "d.jpg").write_bytes(jpeg(50))
    (folder / "notes.txt").write_text("lot 7")
    (folder / ".hidden.jpg").write_bytes(jpeg(50))
    (folder / "folder.jpg").mkdir()
    return folder


def rows(source):
    (account,) = source.accounts
    return {row.text: ([path.name for path in row.files], row.used, row.alarming) for row in account.rows}


def test_a_folder_of_images_and_videos(mixed):
    assert names(mixed) == ["a.jpg", "b-000000", "b-000001", "c.jpg"]
    found = rows(sources.find(str(mixed)))
    assert found.pop("judged") == (["a.jpg", "b.avi", "c.jpg"], True, False)
    assert found.pop("hidden files") == ([".hidden.jpg"], False, False)
    assert found.pop("no image that is read here (.txt)") == (["notes.txt"], False, False)
    ((text, (files, used, alarming)),) = found.items()
    assert files == ["d.jpg"] and not used and alarming and f"{mixed}/**/*.jpg" in text
    assert "d.jpg" in names(f"{mixed}/**/*.jpg")  # as the hint says


def test_patterns(mixed):
    assert names(mixed / "*.avi") == ["b-000000", "b-000001"]
    assert names(mixed / "*") == ["a.jpg", "b-000000", "b-000001", "c.jpg"]
    found = rows(sources.find(str(mixed / "*")))
    assert found["no image that is read here (.txt)"][0] == ["notes.txt"]
    assert [row for row in found.values() if row[2]] == [(["sub"], False, True)]
    assert rows(sources.find(f"{mixed}/**/*.jpg")).keys() == {"judged"}


def test_what_a_folder_without_images_holds(tmp_path):
    with pytest.raises(InputError, match="no images or videos in this folder; it is empty"):
        sources.find(str(tmp_path))
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.png").write_bytes(b"")
    text = r"it holds images in subfolders, .*png' takes \(1\); no image.*\.txt\) \(1\)"
    with pytest.raises(InputError, match=text):
        sources.find(str(tmp_path))
    text = rf"only folders, which hold 1 images or .* give '{tmp_path}/s\*/\*\*/\*.png'"
    with pytest.raises(InputError, match=text):
        sources.find(str(tmp_path / "s*"))
    assert names(f"{tmp_path}/s*/**/*.png") == ["x.png"]
    with pytest.raises(InputError, match="matches no image or video, but 1 others"):
        sources.find(str(tmp_path / "*.txt"))


def test_several_sources_one_behind_the_other(mixed, tmp_path):
    (tmp_path / "raw").write_bytes(bytes(40 * 60))
    found = names(mixed / "c.jpg", f"raw:40x60xGRAY8:{tmp_path / 'raw'}", mixed / "sub", mixed / "b.avi")
    assert found == ["c.jpg", "raw-000000", "d.jpg", "b-000000", "b-000001"]
    (mixed / "sub" / "c.jpg").write_bytes(jpeg(50))
    (mixed / "sub" / "b.mp4").write_bytes((mixed / "b.avi").read_bytes())
    several = names(mixed / "c.jpg", mixed / "sub" / "c.jpg", mixed / "b.avi", mixed / "sub" / "b.mp4")
    assert len(set(several)) == len(several) == 6  # told apart
    for live in ("0", f"watch:{mixed}", "rtsp://u:secret@camera/x"):
        with pytest.raises(InputError, match="does not end by itself; give it alone") as caught:
            sources.find_all([str(mixed), live])
        assert "secret" not in str(caught.value)
    with pytest.raises(InputError, match="none.jpg: no such file"):
        sources.find_all([str(mixed), "none.jpg"])


def test_one_damaged_file_of_several_is_a_broken_frame(mixed):
    (mixed / "a.jpg").write_bytes(jpeg(50)[:200])
    (mixed / "b.avi").write_bytes(b"RIFF no video")
    first, second = (frame.problem for frame in sources.open_source(str(mixed)) if frame.image is None)
    assert "a.jpg: not a complete image" in first and "b.avi: does not open" in second


def test_file_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b.jpg").write_bytes(jpeg(50))
    for spec in (f"file://{tmp_path}/a%20b.jpg", f"file://localhost{tmp_path}/a%20b.jpg", "file:a%20b.jpg",
                 f"FILE://{tmp_path}/a b.jpg", f"file://{tmp_path}"):
        assert names(spec) == ["a b.jpg"], spec
    with pytest.raises(InputError, match="a file of another machine"):
        sources.find("file://server/x.jpg")
    with pytest.raises(InputError, match="no such file"):
        sources.find("file:///none.jpg")


def test_frames_tell_what_is_known_of_their_wholeness(tmp_path, monkeypatch):
    image = np.random.default_rng(0).integers(1, 256, (64, 64, 3), np.uint8)
    for suffix in (".png", ".bmp", ".jpg"):
        cv2.imwrite(str(tmp_path / f"x{suffix}"), image)
    (tmp_path / "y.bmp").write_bytes((tmp_path / "x.bmp").read_bytes()[:-6000] + bytes(6000))
    monkeypatch.setattr(jpeg_decoder, "simplejpeg", None)
    found = {frame.name: frame for frame in sources.open_source(str(tmp_path))}
    assert {name: frame.told for name, frame in found.items()} == {
        "x.png": True, "x.bmp": False, "y.bmp": False, "x.jpg": False,
    }
    assert found["x.bmp"].kind == "BMP" and found["x.bmp"].doubt == "" and "zeros" in found["y.bmp"].doubt
    np.testing.assert_array_equal(found["x.png"].image, image)


def test_bits_of_the_model_and_of_the_camera(tmp_path, caplog):
    deep = np.full((40, 60), 1536, np.uint16)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), deep)
    for bits, grey in ((16, 6), (12, 96)):
        caplog.clear()
        images = [frame.image for frame in sources.open_source(str(tmp_path), Reading(bits))]
        assert [int(image.max()) for image in images] == [grey, grey] and images[0].dtype == np.uint8
        warnings = [record.getMessage() for record in caplog.records]
        assert len(warnings) == (bits == 16)
        if warnings:
            assert "a.png: uses 0..1536 of the 65535 that the model's 16 bits have" in warnings[0]
            assert "if the camera gives 12 bits, train with --bits 12" in warnings[0]
    (frame, _) = sources.open_source(str(tmp_path), Reading(10))
    assert frame.image is None and "needs 11 bits" in frame.problem


@pytest.mark.parametrize("count", [2, 30])
@pytest.mark.parametrize("bits, brightest, warned", [
    (12, 1023, True), (12, 1024, False), (12, 4095, False), (10, 255, True), (10, 256, False),
    (16, 4095, True), (16, 4096, False),
])
def test_a_line_of_fewer_bits_than_the_model_is_named_once(
    tmp_path, caplog, count, bits, brightest, warned
):
    """By the brightest of the first pictures: a dark one alone says nothing."""
    for number in range(count):
        deep = np.full((40, 60), 7 if number == 0 else brightest, np.uint16)
        cv2.imwrite(str(tmp_path / f"{number:02d}.png"), deep)
    assert len(list(sources.open_source(str(tmp_path), Reading(bits)))) == count
    assert len(caplog.records) == warned
    assert not warned or f"uses 0..{brightest} of the {2**bits - 1} that the model's {bits}" in caplog.text


def test_further_pictures_of_a_file_are_told(tmp_path):
    pages = [np.full((40, 60, 3), level, np.uint8) for level in (50, 200)]
    assert cv2.imwritemulti(str(tmp_path / "x.tif"), pages)
    (frame,) = sources.open_source(str(tmp_path / "x.tif"))
    assert frame.several and int(frame.image.max()) == 50
