"""Which photos show the same part: by their names."""

from __future__ import annotations

import re
from typing import Pattern

from ssn_edge.errors import InputError


def pattern(text: str) -> Pattern[str]:
    """``--part``'s regular expression. InputError for one that is none."""
    try:
        return re.compile(text)
    except re.error as error:
        raise InputError(f"--part {text}: no regular expression ({error}); such as '(.*)_shot'") from None


def part_of(expression: Pattern[str], name: str) -> str:
    """The part's name in a photo's: the groups of what is found there, or all of it where there are none. An
    expression with a "/" is held against the whole ``name``, others against what is behind its last "/".
    InputError where nothing is found: a photo of which it is not known what it shows is in no count.

    >>> part_of(pattern(r"exp\\d_num_(\\d+)"), "good/exp3_num_417.jpg"), part_of(pattern(r"^[^_]+"),
    "a7_top.png") ('417', 'a7')
    """
    found = expression.search(name if "/" in expression.pattern else name.rpartition("/")[2])
    text = "-".join(group or "" for group in found.groups()) or found.group() if found else ""
    if not text:
        raise InputError(
            f"--part {expression.pattern}: nothing of it in {name}; it must name the part of each photo"
        )
    return text
