"""Plans ranked by made-up bounds, and by made-up times."""

import math

import pytest

from ssn_edge.errors import BackendError, ModelError
from ssn_export.targets import on_card, ranking, rooflines
from ssn_export.targets.ranking import Candidate
from ssn_export.targets.rooflines import Judged
from ssn_export.targets.target import Target

A2000, ADA = "RTX-A2000", "RTX-4000-Ada"

BOUNDS = {  # ms from memory, with the L2: full moves more and keeps it where the cache is large
    "none": {A2000: (1.0, 0.9), ADA: (0.8, 0.7)},
    "full": {A2000: (1.4, 1.3), ADA: (1.1, 0.4)},
}


def judge(bounds):
    def judged(target, model, called, precision):
        found = bounds[called.split()[1]]
        if isinstance(found, Exception):
            raise found
        known = {name: found[name] for name in ([target.card] if target.card else found)}
        return Judged(50, 70.0, 3.0, known, "the compiler 1.0")

    return judged


def ranked(bounds, target=Target("rtx"), **refused):  # noqa: B008 (frozen)
    candidates = [Candidate(plan, None, 1e-3, refused.get(plan, "")) for plan in bounds]
    return ranking.rank(target, "float16", candidates, judge(bounds))


def test_the_best_plan_is_the_cards():
    assert ranked(BOUNDS, Target("rtx", A2000))["fastest"] == "none"
    assert ranked(BOUNDS, Target("rtx", ADA))["fastest"] == "full"


def test_all_cards_of_a_target_count_alike():
    """The mean of ratios: 1.3 * 0.4 against 0.9 * 0.7."""
    table = ranked(BOUNDS)
    rows = table["candidates"]
    assert table["fastest"] == "full"
    assert rows["full"]["bound_ms"] == pytest.approx(math.sqrt(1.3 * 0.4), abs=1e-4)
    assert rows["none"]["bound_ms"] == pytest.approx(math.sqrt(0.9 * 0.7), abs=1e-4)
    assert rows["full"]["bounds_ms"] == {A2000: [1.4, 1.3], ADA: [1.1, 0.4]}


def test_without_the_size_of_the_cache_memory_counts():
    bounds = {
        plan: {name: (first, None) for name, (first, _) in one.items()} for plan, one in BOUNDS.items()
    }
    assert ranked(bounds)["fastest"] == "none"
    assert ranked(bounds)["candidates"]["full"]["bounds_ms"][ADA] == [1.1, None]


def test_what_is_left_out_says_why():
    table = ranked(BOUNDS, full="in half 1.30 times plan none's error, limit 1.1")
    assert table["fastest"] == "none" and set(table["candidates"]) == {"none"}
    shown = ranking.lines({**table, "cards": [A2000, ADA]})
    assert shown[-1].startswith("  full: left out, in half 1.30 times")
    table = ranked({**BOUNDS, "gather": ModelError("plan gather: no such operator")})
    assert table["left_out"] == {"gather": "plan gather: no such operator"} and table["fastest"] == "full"
    with pytest.raises(ModelError, match=r"--for rtx: no plan is left \(none: too old\); export without it"):
        ranked({"none": BackendError("too old")})


def test_the_table_is_aligned_and_says_what_it_is():
    table = {**ranked(BOUNDS), "cards": [A2000, ADA]}
    title, head, first, second = ranking.lines(table)
    assert "for rtx, roofline of the compiled graph (float16, the compiler 1.0, compute" in title
    assert "not what will be measured" in title
    for card in (A2000, ADA):
        end = head.index(card) + len(card)
        assert {line[end - 1: end + 1] for line in (first, second)} <= {f"{digit} " for digit in "0123456789"}
    assert first.split()[0] == "full" and first.endswith("  <- taken") and "1.400/1.300" in first
    assert second.split()[0] == "none" and "taken" not in second


def times(**medians):
    rows = {
        plan: {"median_ms": ms, "lower_quartile_ms": ms, "upper_quartile_ms": ms, "repetitions": 20}
        for plan, ms in medians.items()
    }
    fastest = min(medians, key=medians.get)
    return {"backend": "rtx 1", "device": "an A2000", "batch": 1, "fastest": fastest, "candidates": rows}


def test_times_decide_where_there_are_some():
    table = ranking.with_times(ranked(BOUNDS, Target("rtx", A2000)), times(none=2.0, full=1.5))
    assert (table["fastest"], table["by_roofline"], table["ranked_right"]) == ("full", "none", False)
    assert table["pairs_in_order"] == [0, 1]
    text = "\n".join(ranking.lines(table))
    assert "ranked wrong: none first, and full is the fastest; 0 of 1 pairs" in text
    taken = [line.split()[0] for line in text.splitlines() if line.endswith("<- taken")]
    least = [line.split()[0] for line in text.splitlines() if line.endswith("<- least")]
    assert (taken, least) == (["full"], ["none"])
    right = ranking.with_times(ranked(BOUNDS, Target("rtx", A2000)), times(none=1.0, full=1.5))
    assert right["ranked_right"] and right["fastest"] == "none"
    assert "the roofline ranked right; 1 of 1 pairs" in "\n".join(ranking.lines(right))


def test_agreement_counts_pairs():
    """Of a < b < c against b < a < c one pair of three is turned."""
    first, second = {"a": 1.0, "b": 2.0, "c": 3.0}, {"b": 0.1, "a": 0.2, "c": 0.3}
    assert ranking.agreement(first, second) == [2, 3]
    assert ranking.agreement(first, first) == [3, 3]
    assert ranking.agreement(first, {"a": 1.0}) == [0, 0]


def test_devices_are_known_by_their_names():
    assert on_card.is_named("NVIDIA RTX A2000 12GB", "RTX-A2000")
    assert on_card.is_named("NVIDIA RTX 2000 Ada Generation", "RTX-2000-Ada")
    assert on_card.is_named("NVIDIA RTX PRO 4000 Blackwell", "RTX-PRO-4000-Blackwell")
    assert not on_card.is_named("NVIDIA RTX A2000 12GB", "RTX-2000-Ada")
    assert not on_card.is_named("NVIDIA RTX A20001", "RTX-A2000")
    assert on_card.why_not(Target("orin")) == "nothing here times for orin"


def test_a_target_is_judged_on_its_own_cards(monkeypatch):
    assert rooflines.capability(Target("rtx")) == "8.6"
    assert rooflines.capability(Target("rtx", ADA)) == "8.9"
    assert rooflines.capability(Target("rtx", "RTX-PRO-4000-Blackwell")) == "12.0"
    missing = 'backend rtx is not installed (no module); run: pip install "ssn-edge[rtx]"'
    monkeypatch.setattr(rooflines.compiled, "missing", lambda: missing)
    with pytest.raises(BackendError) as found:
        rooflines.check_here(Target("rtx"))
    assert str(found.value) == (
        '--for rtx: backend rtx is not installed (no module); run: pip install "ssn-edge[rtx]", which '
        "needs no GPU, or give targets without rtx"
    )
    rooflines.check_here(Target("orin"))
    rooflines.check_here(Target("cpu"))
