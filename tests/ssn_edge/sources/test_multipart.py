"""Parts of a multipart answer, however its blocks fall and its camera errs."""

import random

import pytest

from ssn_edge import InputError
from ssn_edge.sources import multipart

BODIES = [b"one", b"two\r\n-- not a boundary --\r\n", b"\xff\xd8" + bytes(range(256)) * 3, b"four"]


def answer(boundary="b", length=len, line=b"\r\n", dashes=b"--", end=b""):
    """The whole of an answer; ``length`` gives what a part's header says of it, or None."""
    mark, out = dashes + boundary.encode(), b""
    for body in BODIES:
        says = length(body)
        header = b"" if says is None else b"content-LENGTH: %d" % says + line
        out += mark + line + b"Content-Type: image/jpeg" + line + header + line + body + line
    return out + end


def taken(data, boundary="b", block=1 << 16):
    left = bytearray(data)

    def read(count):
        count = min(count, block)
        found = bytes(left[:count])
        del left[:count]
        return found

    return list(multipart.parts(read, boundary))


@pytest.mark.parametrize("block", [1, 7, 1 << 16])
@pytest.mark.parametrize("data, boundary", [
    (answer(), "b"), (answer(length=lambda body: None, end=b"--b--\r\n"), "b"),
    (answer(line=b"\n"), "b"), (answer(end=b"--b--"), "b"), (b"preamble\r\n" + answer(), "b"),
    (answer("--my"), "--my"), (answer("my"), "--my"), (answer("a.b*c"), "a.b*c"),
    (answer(length=lambda body: 10 * len(body) + 50, end=b"--b--\r\n"), "b"),  # more than it sends
])
def test_parts(data, boundary, block):
    bodies = taken(data, boundary, block)
    assert [body.rstrip(b"\r\n") for body in bodies] == [body.rstrip(b"\r\n") for body in BODIES]


def test_a_part_with_half_of_its_length_costs_that_part_alone():
    whole = random.Random(0).randbytes(3000) if hasattr(random.Random, "randbytes") else bytes(3000)
    head = b"--b\r\nContent-Length: 3000\r\n\r\n"
    data = head + whole + b"\r\n" + head + whole[:1500] + b"\r\n" + head + whole + b"\r\n--b--"
    assert taken(data) == [whole, whole[:1500], whole]


def test_what_is_no_picture():
    text = b"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
    picture, nothing = b"--b\r\nContent-Length: x\r\n\r\npicture\r\n", b"--b\r\n\r\n\r\n--b--"
    assert taken(text + picture + nothing) == [b"picture"]
    empty = b"--b\r\nContent-Type: image/jpeg\r\n\r\n\r\n"
    assert taken(empty + picture + empty + b"--b--") == [b"", b"picture", b""]  # broken frames
    assert taken(b"") == taken(b"no boundary at all") == []
    assert taken(b"--b\r\nContent-Length: 100\r\n\r\nhalf") == [b"half"]  # breaks off: a broken frame


@pytest.mark.parametrize("block", [1, 7, 1 << 16])
@pytest.mark.parametrize("boundary", ["foo", None, "--"])
def test_another_boundary_than_the_header_s(boundary, block):
    bodies = [body.rstrip(b"\r\n") for body in BODIES]
    for length in (len, lambda body: None):
        for data in (answer("bar", length=length), b"\r\n-- hello\r\n" + answer("bar", length=length)):
            assert [one.rstrip(b"\r\n") for one in taken(data, boundary, block)] == bodies


@pytest.mark.parametrize("block", [1, 7, 1 << 16])
@pytest.mark.parametrize("name, says", [("frame", None), ("b", None), ("frame", 0), ("b", 0)])
def test_boundaries_that_begin_no_line(name, says, block):
    """And lengths of 0, which some cameras name for every part."""
    jpegs = [b"\xff\xd8\xff\xe0" + bytes([number]) * 999 + b"\xff\xd9" for number in range(1, 5)]
    length = b"" if says is None else b"Content-Length: 0\r\n"
    mark = b"--" + name.encode()
    data = b"".join(mark + b"\r\nContent-Type: image/jpeg\r\n" + length + b"\r\n" + one for one in jpegs)
    for boundary in (name, "other"):
        assert taken(data, boundary, block) == jpegs
    assert taken(b"".join(jpegs), name, block) == jpegs  # no boundaries at all


def test_nothing_without_end_is_kept(monkeypatch):
    monkeypatch.setattr(multipart, "LARGEST", 1 << 20)
    with pytest.raises(InputError, match="a part of more than 1 MB"):
        list(multipart.parts(lambda count: b"--b\r\n\r\n" + bytes(count), "b"))
    calls = iter(range(1000))
    assert list(multipart.parts(lambda count: bytes(count) if next(calls) < 999 else b"", "b")) == []
