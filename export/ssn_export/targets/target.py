"""What graphs are exported for: the CPU, RTX cards, Orins; and which cards of ``devices.json`` those are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Sequence, Tuple

from ssn_edge.errors import InputError
from ssn_edge.text import one_line
from ssn_export.work import cards
from ssn_export.work.cards import Card

NAMES = ("cpu", "rtx", "orin")

FAMILIES = {"rtx": "RTX-", "orin": "Orin-"}
"""What is part of the name of a target's cards."""


@dataclass(frozen=True)
class Target:
    """``name`` is one of :data:`NAMES`; ``card`` names one of ``devices.json``, or is empty for all of the
    target's."""

    name: str
    card: str = ""

    def cards(self) -> Dict[str, Card]:
        """The cards to judge a graph by, by name; none of the CPU."""
        known = _family(self.name)
        return {self.card: known[self.card]} if self.card else known

    @property
    def words(self) -> str:
        return f"{self.name}:{self.card}" if self.card else self.name


CPU = Target("cpu")


def parse(text: str) -> Tuple[Target, ...]:
    """``cpu,rtx:RTX-A2000`` in the given order. InputError for names that there are none of, and for a target
    that is named twice."""
    found = tuple(_one(word.strip()) for word in text.split(","))
    names = [target.name for target in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--for {one_line(text, 60)}: {name} is named twice; name it once")
    return found


def words(targets: Sequence[Target]) -> str:
    """As they were given."""
    return ",".join(target.words for target in targets)


def _one(word: str) -> Target:
    name, colon, card = word.partition(":")
    if name not in NAMES:
        raise InputError(f"--for {one_line(repr(word), 60)}: choose of {', '.join(NAMES)}")
    known = _family(name)
    if colon and card not in known:
        right = f"choose of {', '.join(known)}" if known else "the CPU is this machine's; give cpu alone"
        raise InputError(f"--for {one_line(word, 60)}: no such card; {right}")
    return Target(name, card)


def _family(name: str) -> Dict[str, Card]:
    if name not in FAMILIES:
        return {}
    return {card: figures for card, figures in cards.read().items() if FAMILIES[name] in card}
