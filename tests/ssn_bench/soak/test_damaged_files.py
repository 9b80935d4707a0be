"""The fuzz of damaged files on a few of them: what has checksums tells of all, nothing whole is refused."""

import numpy as np
import pytest

from ssn_bench.soak import damaged_files
from ssn_edge.frames import jpeg

pytest.importorskip("PIL")


def test_what_is_told_of():
    found = damaged_files.fuzz(300, np.random.default_rng(1))
    assert sum(sum(counts.values()) for row in found.values() for counts in row.values()) == 300
    for kind in ("PNG", "JPEG"):
        if kind == "JPEG" and jpeg.simplejpeg is None:
            continue
        for how in ("cut", "cut, end mark kept", "zeroed end"):
            assert not found[kind][how]["missed"], (kind, how)
    for kind in damaged_files.ENCODERS:
        assert not found[kind]["cut"]["missed"], kind


def test_nothing_whole_is_refused():
    found = damaged_files.whole(138, np.random.default_rng(2))
    assert {kind: row["refused"] for kind, row in found.items()} == dict.fromkeys(damaged_files.ENCODERS, 0)
    assert found["JPEG"]["doubted"] == found["PNG"]["doubted"] == 0


def test_the_table_names_every_format():
    rng = np.random.default_rng(3)
    document = {"damaged": damaged_files.fuzz(25, rng), "whole": damaged_files.whole(23, rng), "time": {}}
    text = "\n".join(damaged_files.tables(document))
    assert all(f"| {kind} |" in text for kind in damaged_files.ENCODERS)
