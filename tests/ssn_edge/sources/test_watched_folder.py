"""Folders that are watched: files that come slowly, again, or not at all."""

import os
import threading

import cv2
import numpy as np
import pytest
from clips import STRICT
from waiting import PATIENCE_S, in_thread, until

from ssn_edge import sources
from ssn_edge.line import stream
from ssn_edge.sources import watched_folder

FRAME = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture
def looks(monkeypatch):
    """What watched folders were seen to hold, look by look, and which files were tried."""
    listings, tried = [], []
    listed, content = watched_folder.listed, watched_folder._content

    def noted(folder):
        found = listed(folder)
        listings.append({path.name for path in found})
        return found

    monkeypatch.setattr(watched_folder, "listed", noted)
    monkeypatch.setattr(
        watched_folder, "_content", lambda path, stamp: (content(path, stamp), tried.append(path.name))[0]
    )
    return listings, tried


def test_watched_folder(detector, tmp_path, looks, monkeypatch):
    listings, tried = looks
    folder = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(folder / "old.png"), FRAME)
    whole = cv2.imencode(".jpg", FRAME)[1].tobytes()
    stop, seen, summary = threading.Event(), [], stream.Summary()
    monkeypatch.setattr(watched_folder, "SETTLE_S", PATIENCE_S)

    def writer():
        (folder / "a.jpg").write_bytes(whole)
        with open(folder / "b.jpg", "wb") as file:  # a camera that takes its time
            file.write(whole[:300])
            file.flush()
            until(lambda: "b.jpg" in tried)
            file.write(whole[300:])
        until(lambda: {"a.jpg", "b.jpg"} <= set(seen))
        os.unlink(folder / "a.jpg")
        until(lambda: "a.jpg" not in listings[-1])
        (folder / "a.jpg").write_bytes(whole)  # the same name again is another part
        until(lambda: seen.count("a.jpg") == 2)
        monkeypatch.setattr(watched_folder, "SETTLE_S", 0.1)
        (folder / "torn.jpg").write_bytes(whole[:300])
        until(lambda: summary.broken)
        stop.set()

    source = sources.find(f"watch:{folder}")
    thread = in_thread(writer)
    stream.run(source, detector, on_result=lambda r: seen.append(r.frame.name), stop=stop, summary=summary)
    thread.join()
    assert sorted(seen) == ["a.jpg", "a.jpg", "b.jpg"]
    assert summary.broken == 1  # torn.jpg, once it has stopped growing


def test_watched_folder_that_goes_away(detector, tmp_path, caplog, looks):
    """A share that is gone for a moment: what came meanwhile is judged, what was judged is not again."""
    listings, _ = looks
    folder, away = tmp_path / "in", tmp_path / "away"
    folder.mkdir()
    stop, seen = threading.Event(), []

    def share():
        cv2.imwrite(str(folder / "a.png"), FRAME)
        until(lambda: seen == ["a.png"])
        folder.rename(away)
        until(lambda: "source lost" in caplog.text)
        cv2.imwrite(str(away / "b.png"), FRAME)
        away.rename(folder)
        until(lambda: "b.png" in seen)
        count = len(listings)
        until(lambda: len(listings) > count + 3)
        stop.set()

    source = sources.find(f"watch:{folder}")
    thread = in_thread(share)
    stream.run(
        source, detector, on_result=lambda r: seen.append(r.frame.name), stop=stop, retry_s=(0.02, 0.05)
    )
    thread.join()
    assert seen == ["a.png", "b.png"]


class Watched:
    """A folder that a stream watches in a thread; what was judged, and how."""

    def __init__(self, folder, detector, settle_s=None):
        self.folder, self.seen, self.stop, self.summary = folder, [], threading.Event(), stream.Summary()
        source = sources.find(f"watch:{folder}", settle_s=settle_s)
        self.thread = in_thread(lambda: stream.run(
            source, detector, stop=self.stop, summary=self.summary,
            on_result=lambda result: self.seen.append((result.frame.name, round(result.detection.score, 3))),
        ))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def names(self):
        return [name for name, _ in self.seen]



def encoded(level, suffix):
    return cv2.imencode(suffix, np.full((96, 128, 3), level, np.uint8))[1].tobytes()


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".ppm"])
def test_full_length_first_and_the_bytes_later(detector, tmp_path, looks, suffix):
    """As a copy over SMB does. Judged once, whole."""
    _, tried = looks
    parameters = [cv2.IMWRITE_TIFF_COMPRESSION, 1] if suffix == ".tif" else []
    data = cv2.imencode(suffix, np.full((96, 128, 3), 102, np.uint8), parameters)[1].tobytes()
    with Watched(tmp_path, detector, 1.5) as watched:
        with open(tmp_path / f"slow{suffix}", "wb") as file:
            file.truncate(len(data))
            file.write(data[: len(data) // 4])
            file.flush()
            until(lambda: tried)
            file.write(data[len(data) // 4 :])
        until(lambda: watched.seen)
        (tmp_path / "end.png").write_bytes(encoded(51, ".png"))
        until(lambda: len(watched.seen) > 1)
    assert watched.seen == [(f"slow{suffix}", 0.4), ("end.png", 0.2)]


def test_formats_that_tell_are_not_waited_for(detector, tmp_path):
    with Watched(tmp_path, detector, PATIENCE_S) as watched:
        for suffix in (".bmp", ".jpg", ".png"):
            (tmp_path / f"x{suffix}").write_bytes(encoded(51, suffix))
        until(lambda: len(watched.seen) == 1 + STRICT)
    assert sorted(watched.names()) == (["x.jpg", "x.png"] if STRICT else ["x.png"])


def test_a_file_that_is_written_again_is_judged_again(detector, tmp_path, looks):
    latest, other = tmp_path / "latest.png", tmp_path / "other"
    latest.write_bytes(encoded(255, ".png"))  # there at the start
    listings, _ = looks
    with Watched(tmp_path, detector) as watched:
        until(lambda: len(listings) > 3)
        for number, level in enumerate((51, 102, 102)):  # the same picture is another part, too
            latest.write_bytes(encoded(level, ".png"))
            until(lambda number=number: len(watched.seen) == number + 1)
        other.write_bytes(encoded(153, ".png"))
        os.replace(other, latest)
        until(lambda: len(watched.seen) == 4)
    assert [value for _, value in watched.seen] == [0.2, 0.4, 0.4, 0.6]


def test_what_is_added_to_a_judged_file_makes_no_part_of_it(detector, tmp_path, looks):
    """cp -p sets the time back, a phone appends its video: the picture is the same."""
    listings, _ = looks
    with Watched(tmp_path, detector) as watched:
        path = tmp_path / "x.jpg"
        path.write_bytes(encoded(51, ".jpg"))
        until(lambda: watched.seen)
        os.utime(path, (1000, 1000))
        count = len(listings)
        until(lambda: len(listings) > count + 2)
        with open(path, "ab") as file:
            file.write(b"a video" * 100)
        count = len(listings)
        until(lambda: len(listings) > count + 2)
    assert watched.names() == ["x.jpg"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_the_rest_of_a_broken_file_makes_it_a_part(detector, tmp_path, looks, suffix):
    """A writer that pauses for longer than files may take to settle; and a file that is written again."""
    whole = cv2.imencode(suffix, FRAME)[1].tobytes()
    listings, _ = looks
    with Watched(tmp_path, detector, 0.0) as watched:
        path, begun = tmp_path / f"x{suffix}", tmp_path / ".begun"
        begun.write_bytes(whole[: len(whole) // 4])
        begun.rename(path)  # or the empty file could be seen, and be broken too
        with open(path, "ab", buffering=0) as file:
            until(lambda: watched.summary.broken)
            os.utime(path, (1000, 1000))  # the broken file itself, once more
            count = len(listings)
            until(lambda: len(listings) > count + 2)
            file.write(whole[len(whole) // 4 :])
        until(lambda: watched.seen)
    assert watched.names() == [path.name] and watched.summary.broken == 1


def test_videos_are_named_once(detector, tmp_path, looks, caplog):
    listings, _ = looks
    (tmp_path / "old.mp4").write_bytes(b"there at the start")
    with Watched(tmp_path, detector) as watched:
        (tmp_path / "new.mp4").write_bytes(b"a video")
        until(lambda: "new.mp4" in caplog.text)
        count = len(listings)
        until(lambda: len(listings) > count + 3)
    assert caplog.text.count("new.mp4: a video, which is not judged") == 1 and "old.mp4" not in caplog.text
    assert not watched.seen and not watched.summary.captured


def test_a_file_that_stays_unreadable_is_broken_once(detector, tmp_path, looks):
    listings, _ = looks
    with Watched(tmp_path, detector, 0.0) as watched:
        (tmp_path / "x.jpg").write_bytes(encoded(51, ".jpg")[:-9])
        (tmp_path / "y.jpg").mkdir()
        until(lambda: watched.summary.broken)
        count = len(listings)
        until(lambda: len(listings) > count + 3)
    assert watched.summary.broken == 1 and "x.jpg: not a complete image" in watched.summary.problem
