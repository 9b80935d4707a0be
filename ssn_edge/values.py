"""What a user typed, as numbers: one reader for every option, address and header."""

from __future__ import annotations

import re
from typing import Mapping, Optional, Tuple

from ssn_edge.errors import InputError


def whole_number(text: str) -> Optional[int]:
    """The number that the text is: up to nine of the digits 0 to 9, which fits a C int. None for anything
    else, spaces too. (``str.isdigit`` takes a "²" as well, ``isdecimal`` other alphabets' digits.)"""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def whole_numbers(option: str, text: str, separator: str, count: int) -> Tuple[int, ...]:
    """``count`` whole numbers with a separator between them; InputError names the option."""
    found = tuple(whole_number(part.strip()) for part in text.split(separator))
    numbers = tuple(number for number in found if number is not None)
    if not len(found) == len(numbers) == count:
        raise InputError(f"{option} {text}: give {count} whole numbers, separated by {separator!r}")
    return numbers


def size_hw(option: str, text: str, square: bool = False) -> Tuple[int, int]:
    """``HxW`` in pixels, at least 1x1, as (height, width); with ``square`` one number stands for both."""
    found = tuple(map(whole_number, text.lower().split("x")))
    if square and len(found) == 1:
        found *= 2
    if len(found) != 2 or not found[0] or not found[1]:
        raise InputError(f"{option} {text}: give HEIGHTxWIDTH in pixels, such as 256x256")
    return found[0], found[1]


def host_port(option: str, text: str) -> Tuple[str, int]:
    """``[HOST:]PORT``; loopback where no host is given."""
    host, _, number = text.rpartition(":")
    port = whole_number(number.strip())
    if port is None or port > 65535:
        raise InputError(f"{option} {text}: give PORT or HOST:PORT")
    return host.strip("[]") or "127.0.0.1", port


def share(option: str, text: str) -> float:
    """A share as per cent or as a number between 0 and 1.

    >>> share("--false-alarms", "0.5%"), share("--false-alarms", "0.01")
    (0.005, 0.01)
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*(%?)\s*", text)
    value = float(found.group(1)) / (100 if found.group(2) else 1) if found else 0.0
    if not 1e-6 <= value < 1:
        raise InputError(f"{option} {text}: give per cent, such as 1%, from 0.0001% on")
    return value


def quantity(option: str, text: str, units: Mapping[str, float], remedy: str) -> float:
    """``10 ms``, ``60s`` or ``90`` (in the first unit) as a number of what ``units`` (name -> factor) count;
    InputError with ``remedy`` for another text, and for what is not above 0 and below 1e7."""
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text.strip()[len(number):] or next(iter(units))
    try:
        found = float(number) * units[unit]
    except (ValueError, KeyError):
        found = 0.0
    if not 0 < found < 1e7:
        raise InputError(f"{option} {text}: {remedy}")
    return found
