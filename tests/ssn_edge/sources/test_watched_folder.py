"""Folders that are watched: files that come slowly, again, or not at all."""

import os
import threading

import cv2
import numpy as np
import pytest
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
