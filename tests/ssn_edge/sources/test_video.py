"""Videos: every frame that their header names is judged or counted as broken."""

import struct

import cv2
import numpy as np
import pytest
from clips import LEVELS, STRICT, clip, cut, jpeg, picture, removed, zeros

from ssn_edge import InputError, sources
from ssn_edge.frames import containers
from ssn_edge.sources import mjpeg, video

CONTAINERS = [
    (".mp4", "mp4v"), (".mov", "mp4v"), (".m4v", "mp4v"), (".3gp", "mp4v"), (".avi", "MJPG"),
    (".avi", "XVID"), (".mkv", "mp4v"), (".ts", "mpg2"), (".ts", "mp4v"), (".mts", "mpg2"),
    (".vob", "mpg2"), (".mpg", "mpg1"), (".flv", "FLV1"), (".wmv", "WMV2"), (".asf", "WMV1"),
    (".webm", "VP80"),
]


def frames(path):
    return list(sources.open_source(str(path)))


def split(found):
    """(good frames, broken frames)."""
    return [one for one in found if one.image is not None], [one for one in found if one.image is None]


@pytest.mark.parametrize("suffix, code", CONTAINERS)
@pytest.mark.parametrize("count", [1, 5, 24])
def test_a_whole_video_gives_all_frames_and_no_alarm(tmp_path, caplog, suffix, code, count):
    good, broken = split(frames(clip(tmp_path / f"v{suffix}", code, LEVELS[:count])))
    assert (len(good), broken, caplog.text) == (count, [], "")
    for number, frame in enumerate(good):
        assert frame.name == f"v-{number:06d}" and abs(float(frame.image.mean()) - LEVELS[number]) < 12
        assert not frame.told


@pytest.mark.parametrize("suffix, code", [
    (".avi", "MJPG"), (".mkv", "MJPG"), (".flv", "FLV1"), (".wmv", "WMV2"),
])
def test_a_cut_video_is_not_taken_for_whole(tmp_path, caplog, suffix, code):
    good, broken = split(frames(cut(clip(tmp_path / f"v{suffix}", code), 0.5)))
    assert 3 < len(good) < 20 and broken
    assert suffix == ".wmv" or len(good) + len(broken) == 24  # of a cut ASF no count is left
    (warning,) = (one.getMessage() for one in caplog.records)
    assert f"v{suffix}: " in warning and f"{len(good)} could be read" in warning
    assert "frame 23 could not be read" in broken[-1].problem or suffix == ".wmv"


@pytest.mark.parametrize("suffix, code", [
    (".mp4", "mp4v"), (".avi", "MJPG"), (".mkv", "MJPG"), (".ts", "mpg2"),
])
def test_reading_goes_on_behind_damage(tmp_path, caplog, suffix, code):
    found = frames(zeros(clip(tmp_path / f"v{suffix}", code), 0.4, 0.6))
    good, broken = split(found)
    assert len(found) == 24 and broken and abs(float(good[-1].image.mean()) - LEVELS[-1]) < 12
    assert f"the header names 24 frames, {len(good)} could be read" in caplog.text


@pytest.mark.parametrize("suffix, code", [(".wmv", "WMV2"), (".mpg", "mpg1"), (".vob", "mpg2")])
@pytest.mark.parametrize("damage", [(zeros, 0.45, 0.6), (zeros, 0.5, 1.0), (removed, 0.45, 0.55)])
def test_damage_of_which_the_header_tells_nothing(tmp_path, caplog, suffix, code, damage):
    path = clip(tmp_path / f"v{suffix}", code, LEVELS * 2)
    damage[0](path, *damage[1:])
    good, broken = split(frames(path))
    assert good and broken and "could be read" in caplog.text


@pytest.mark.parametrize("suffix, code", [(".flv", "FLV1"), (".ts", "mpg2")])
def test_damage_that_the_decoder_fills_is_a_warning_at_least(tmp_path, caplog, suffix, code):
    frames(removed(clip(tmp_path / f"v{suffix}", code), 0.4, 0.43))
    assert "could be read" in caplog.text or "damaged inside" in caplog.text


def test_what_stands_between_packs_and_packets(tmp_path):
    """Video CDs have zeros between packs, camcorders a time before each packet."""
    path = clip(tmp_path / "v.mpg", "mpg1")
    plain = path.read_bytes()
    second = plain.index(b"\0\0\1\xba", 4)
    for count, whole in ((20, True), (5000, False)):
        for data in (plain[:second] + bytes(count) + plain[second:], plain + bytes(count)):
            path.write_bytes(data)
            assert containers.is_whole(path) == whole
    path = clip(tmp_path / "v.ts", "mpg2")
    plain = path.read_bytes()
    assert containers.is_whole(path)
    stamped = b"".join(b"time" + plain[place : place + 188] for place in range(0, len(plain), 188))
    for data, whole in ((stamped, True), (stamped[:2000] + stamped[2500:], False), (stamped[:-9], False)):
        path.write_bytes(data)
        assert containers.is_whole(path) == whole


def varied(path, places):
    """A video of PyAV's whose frames lie at ``places``, in steps of 1/25 s."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as out:
        track = out.add_stream("flv" if path.suffix == ".flv" else "mpeg4", rate=25)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        for number, place in enumerate(places):
            frame = av.VideoFrame.from_ndarray(picture(LEVELS[number]), "bgr24")
            frame.pts = place
            out.mux(track.encode(frame))
        out.mux(track.encode())
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".flv", ".ts"])
@pytest.mark.parametrize("places", [
    [0, 1, 2, 3, 10, 11, 12, 20, 21, 30, 31, 32, 33, 34, 50, 51, 52, 53, 54, 55, 80, 81, 82, 90],
    [*range(12), *range(40, 52)],
])
def test_a_rate_with_pauses_is_no_alarm(tmp_path, caplog, suffix, places):
    good, broken = split(frames(varied(tmp_path / f"v{suffix}", places)))
    assert (len(good), broken, caplog.text) == (24, [], "")


@pytest.mark.parametrize("first, last", [(0, 12), (12, 24), (6, 18)])
def test_frames_that_an_edit_list_hides_are_not_missing(tmp_path, caplog, first, last):
    """A trim without new encoding, as phones make it: here the list that FFmpeg wrote is changed."""
    path = clip(tmp_path / "v.mp4", "mp4v")
    data = bytearray(path.read_bytes())
    place = data.find(b"elst") + 12
    (media,) = struct.unpack_from(">I", data, data.find(b"mdhd") + 16)
    (movie,) = struct.unpack_from(">I", data, data.find(b"mvhd") + 16)
    struct.pack_into(">II", data, place, (last - first) * movie // 25, first * media // 25)
    path.write_bytes(data)
    good, broken = split(frames(path))
    assert len(good) < 24 and not broken and not caplog.text
    assert len(split(frames(clip(tmp_path / "w.mp4", "mp4v")))[0]) == 24


class Capture:
    """An opened video whose reads go by plan: a grey level or None for a read that fails."""

    def __init__(self, reads, count, fps=25.0):
        self.reads, self.properties, self.tried = iter(reads), {cv2.CAP_PROP_FRAME_COUNT: count}, 0
        self.properties[cv2.CAP_PROP_FPS] = fps
        self.good, self.released = 0, False

    def read(self):
        self.tried += 1
        level = next(self.reads, None)
        self.good += level is not None
        return (True, picture(level)) if level is not None else (False, None)

    def get(self, which):
        if which == cv2.CAP_PROP_POS_MSEC:
            return 1000 * (self.good - 1) / 25
        return self.properties[which]

    def release(self):
        self.released = True


MP4, OTHER = b"\0\0\0\x18ftypisom", b"\x1aE\xdf\xa3"


@pytest.mark.parametrize("head, reads, count, expected", [
    (MP4, [1, 2, None, 4, 5], 5, "..x.."),  # OpenCV's read may fail once
    (MP4, [1, None, None, 4, None], 5, ".xx.x"),
    (MP4, [1, 2], 5, "..xxx"),
    (MP4, [1, 2, 3], 2, "..."),  # more than named
    (MP4, [1, 2], -1e14, ".."), (MP4, [1, 2], 1e12, ".."),  # no count
    (MP4 + b"mvex", [1] * 98, 100, "." * 98),  # fragments: an estimate
    (OTHER, [1] * 98, 100, "." * 98), (OTHER, [1] * 99 + [None], 100, "." * 99),
    (OTHER, [1] * 90, 100, "." * 90 + "x" * 10),
    (OTHER, [1, None, 3], 0, ".x."), (OTHER, [], 0, "x"), (MP4, [None] * 5, 3, "xxx"),
    (OTHER, [1, 2], float("nan"), ".."),
])
def test_the_header_s_count(head, reads, count, expected):
    capture = Capture(reads, count)
    found = list(video.counted_frames(capture, "v", "v.xyz", head, 10_000))
    assert "".join("x" if frame.image is None else "." for frame in found) == expected
    assert [frame.name for frame in found] == [f"v-{number:06d}" for number in range(len(found))]
    assert capture.released and capture.tried <= len(reads) + video.TRIES


def test_an_estimate_of_another_rate_is_no_alarm():
    """Screen recordings name 1000 frames a second, and phones record at a rate that varies."""
    for fps in (1000.0, 60.0):
        assert len(list(video.counted_frames(Capture([1] * 50, 2 * fps, fps), "v", "v", OTHER, 10**6))) == 50


def test_what_is_no_image_is_tried_as_a_video(tmp_path):
    plain = clip(tmp_path / "v.avi")
    for name in ("noname", "v.jpg", "v.mp4", "v.bin"):
        (tmp_path / name).write_bytes(plain.read_bytes())
        assert len(frames(tmp_path / name)) == 24
    (tmp_path / "text.txt").write_text("not a film of a terminal\n" * 100)
    (tmp_path / "noise.xyz").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "empty").write_bytes(b"")
    for name, text in (("text.txt", "neither an image nor a video"), ("noise.xyz", "neither an image nor"),
                       ("noise.mp4", "noise.mp4: does not open"), ("empty", "neither an image nor")):
        with pytest.raises(InputError, match=text):
            frames(tmp_path / name)


def test_a_broken_picture_is_not_read_by_its_neighbours(tmp_path):
    """OpenCV's reader of numbered images goes on with the next ones."""
    for number in range(3):
        (tmp_path / f"img_{number}.jpg").write_bytes(jpeg(50))
    (tmp_path / "img_1.jpg").write_bytes(b"no picture" * 50)
    with pytest.raises(InputError, match="img_1.jpg: not a complete image"):
        frames(tmp_path / "img_1.jpg")


@pytest.mark.parametrize("name", ["v.mjpeg", "v.mjpg", "v.avi", "v.MJPG"])
@pytest.mark.parametrize("between", [b"", b"\r\n--next\r\nContent-Type: image/jpeg\r\n\r\n"])
def test_every_picture_of_a_motion_jpeg_is_looked_at(tmp_path, name, between):
    pictures = [jpeg(level) for level in LEVELS]
    pictures[5] = pictures[5][: len(pictures[5]) // 2]
    pictures[9] = pictures[9][: len(pictures[9]) // 2] + (b"\xff\xd9" if STRICT else b"")
    pictures[-1] = pictures[-1][:-300]
    start = between if name != "v.avi" else b""
    (tmp_path / name).write_bytes(start + between.join(pictures))
    found = frames(tmp_path / name)
    assert [number for number, frame in enumerate(found) if frame.image is None] == [5, 9, 23]
    assert all(frame.told == STRICT for frame in found if frame.image is not None) and len(found) == 24
    assert abs(float(found[6].image.mean()) - LEVELS[6]) < 12
    assert f"{name}: frame 5: not a complete image" in found[5].problem


def test_motion_jpeg_is_read_in_pieces(monkeypatch):
    """Wherever a block ends, the same pictures; thumbnails inside are none."""
    thumbnail = jpeg(200)
    noted = jpeg(100)
    noted = noted[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + noted[2:]
    whole = [jpeg(50), noted, jpeg(60)]
    for block in (1, 7, 1000, 1 << 20):
        monkeypatch.setattr(mjpeg, "BLOCK", block)
        left = bytearray(b"junk" + b"".join(whole) + b"\xff")

        def read(count, left=left):
            taken = bytes(left[:count])
            del left[:count]
            return taken

        assert list(mjpeg.split(read)) == whole


def test_a_file_of_no_picture(tmp_path):
    (tmp_path / "v.mjpeg").write_bytes(b"nothing" * 100)
    (frame,) = frames(tmp_path / "v.mjpeg")
    assert frame.image is None and "holds no JPEG" in frame.problem
