"""Which photos show the same part: by their names."""

from __future__ import annotations

import re
from typing import Pattern

from ssn_edge.errors import InputError


def pattern(text: str) -> Pattern[str]:
    """``--part``'s regular expression. InputError for one that is none."""
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(f"--part {text}: no regular expression ({error}); such as '(.*)_shot'") from None


def find_part(expression: Pattern[str], name: str) -> str:
    """The part's name in a photo's: the groups of what is found there, or all of it where the expression has
    none; "" where nothing is found. An expression with a "/" is held against the whole ``name``, others
    against what is behind its last "/"."""
    found = expression.search(name if "/" in expression.pattern else name.rpartition("/")[2])
    if found is None:
        return ""
    return "-".join(group for group in found.groups() if group) if expression.groups else found.group()


def part_of(expression: Pattern[str], name: str) -> str:
    """As :func:`find_part`; InputError where nothing is found: a photo of which it is not known what it shows
    is in no count.

    >>> part_of(pattern(r"exp\\d_num_(\\d+)"), "good/exp3_num_417.jpg")
    '417'
    >>> part_of(pattern(r"^[^_]+"), "a7_top.png")
    'a7'
    """
    text = find_part(expression, name)
    if not text:
        raise InputError(
            f"--part {expression.pattern}: nothing of it in {name}; it must name the part of each photo"
        )
    return text
