"""Plans ranked for a target by rooflines, and by timing where such a card is here; the table of both."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence

from ssn_edge.errors import BackendError, ModelError
from ssn_edge.text import one_line
from ssn_export.targets import rooflines
from ssn_export.targets.rooflines import Judged
from ssn_export.targets.target import Target

if TYPE_CHECKING:
    import onnx

Judge = Callable[[Target, "onnx.ModelProto", str, str], Judged]


@dataclass(frozen=True)
class Candidate:
    """A plan's graph, with its map's error where it is in half: rms over the map's standard deviation.
    ``refused`` says why it is not to be ranked, if it is not."""

    plan: str
    model: onnx.ModelProto
    error: Optional[float] = None
    refused: str = ""


def rank(
    target: Target, precision: str, candidates: Iterable[Candidate], judge: Judge = rooflines.judge
) -> Dict[str, Any]:
    """The table: each plan's figures, and as ``fastest`` the one of the least bound; ModelError if none is
    left. What the compiler does not take is left out, with its words."""
    found: Dict[str, Judged] = {}
    errors: Dict[str, Optional[float]] = {}
    left_out: Dict[str, str] = {}
    for one in candidates:
        if one.refused:
            left_out[one.plan] = one.refused
            continue
        try:
            found[one.plan] = judge(target, one.model, f"plan {one.plan}", precision)
            errors[one.plan] = one.error
        except (BackendError, ModelError) as error:
            left_out[one.plan] = one_line(error, 300)
    if not found:
        reasons = "; ".join(f"{plan}: {reason}" for plan, reason in left_out.items())
        raise ModelError(f"--for {target.words}: no plan is left ({reasons}); export without it")
    means = {plan: bound_ms(one) for plan, one in found.items()}
    compilers = sorted({one.compiler for one in found.values() if one.compiler})
    return {
        "target": target.name, "method": rooflines.METHODS[target.name], "precision": precision,
        "cards": list(target.cards()),
        **({"compiler": compilers[0], "compute_capability": rooflines.capability(target)} if compilers
           else {}),
        "fastest": min(means, key=lambda plan: means[plan]),
        "candidates": {
            plan: {
                "kernels": one.kernels, "megabytes": round(one.megabytes, 3), "gmac": round(one.gmac, 6),
                "bounds_ms": {
                    name: [round(first, 4), None if second is None else round(second, 4)]
                    for name, (first, second) in one.bounds.items()
                },
                "bound_ms": round(means[plan], 4), "half_rms": errors[plan],
            }
            for plan, one in found.items()
        },
        **({"left_out": left_out} if left_out else {}),
    }


def bound_ms(judged: Judged) -> float:
    """The geometric mean over the cards: with the L2 where its size is known, else without."""
    limits = [first if second is None else second for first, second in judged.bounds.values()]
    return math.exp(sum(map(math.log, limits)) / len(limits))


def with_times(table: Mapping[str, Any], timed: Mapping[str, Any]) -> Dict[str, Any]:
    """The table with what was measured on a card (:func:`.on_card.timed`), which decides."""
    return {
        **table, "timed": dict(timed), "fastest": timed["fastest"], "by_roofline": table["fastest"],
        "ranked_right": table["fastest"] == timed["fastest"],
        "pairs_in_order": agreement(
            {plan: row["bound_ms"] for plan, row in table["candidates"].items()},
            {plan: row["median_ms"] for plan, row in timed["candidates"].items()},
        ),
    }


def agreement(first: Mapping[str, float], second: Mapping[str, float]) -> List[int]:
    """How many pairs of plans both put in the same order, and how many there are."""
    pairs = list(itertools.combinations(sorted(set(first) & set(second)), 2))
    return [sum((first[a] < first[b]) == (second[a] < second[b]) for a, b in pairs), len(pairs)]


def lines(table: Mapping[str, Any], what: str = "plan") -> List[str]:
    """For people."""
    rows, cards = table["candidates"], table["cards"]
    by = [table["precision"]]
    if "compiler" in table:
        by += [table["compiler"], f"compute capability {table['compute_capability']}"]
    cached = any(second is not None for row in rows.values() for _, second in row["bounds_ms"].values())
    found = [
        f"{what} for {table['target']}, {table['method']} ({', '.join(by)}), ms at least, all from memory"
        f"{' / L2 kept' if cached else ''}; not what will be measured:",
    ]
    width = max(13, *(len(card) + 2 for card in cards))
    head = f"  {what:16s}{'kernels':>8s}{'MB':>9s}{'GMAC':>8s}{'half rms':>10s}"
    found.append(head + "".join(f"{card:>{width}s}" for card in cards) + f"{'mean':>9s}")
    by_roofline = table.get("by_roofline", table["fastest"])
    for plan in sorted(rows, key=lambda name: rows[name]["bound_ms"]):
        row = rows[plan]
        error = "-" if row["half_rms"] is None else f"{row['half_rms']:.1e}"
        line = f"  {plan:16s}{row['kernels'] or '-':>8}{row['megabytes']:9.1f}{row['gmac']:8.2f}{error:>10s}"
        line += "".join(f"{_shown(row['bounds_ms'][card]):>{width}s}" for card in cards)
        first = "" if plan != by_roofline else "  <- least" if "timed" in table else "  <- taken"
        found.append(f"{line}{row['bound_ms']:9.3f}{first}")
    found += [f"  {plan}: left out, {reason}" for plan, reason in table.get("left_out", {}).items()]
    return [*found, *(_timed(table) if "timed" in table else [])]


def _shown(limits: Sequence[Optional[float]]) -> str:
    first, second = limits
    return f"{first:.3f}" if second is None else f"{first:.3f}/{second:.3f}"


def _timed(table: Mapping[str, Any]) -> List[str]:
    timed = table["timed"]
    found = [f"the same as engines, timed alternately on {timed['device']}, {timed['backend']}, batch 1:"]
    for plan, row in sorted(timed["candidates"].items(), key=lambda item: item[1]["median_ms"]):
        found.append(
            f"  {plan:16s}{row['median_ms']:9.3f} ms  ({row['lower_quartile_ms']:.3f} to "
            f"{row['upper_quartile_ms']:.3f}, n = {row['repetitions']})"
            f"{'  <- taken' if plan == timed['fastest'] else ''}"
        )
    same, pairs = table["pairs_in_order"]
    verdict = "ranked right" if table["ranked_right"] else (
        f"ranked wrong: {table['by_roofline']} first, and {timed['fastest']} is the fastest"
    )
    return [*found, f"the roofline {verdict}; {same} of {pairs} pairs of plans in the measured order"]
