"""What a user typed: numbers are the digits 0 to 9, and one wording says what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge import InputError
from ssn_edge.values import host_port, size_hw, whole_number, whole_numbers


@given(number=st.integers(0, 999_999_999))
def test_every_number_of_nine_digits_is_read(number):
    assert whole_number(str(number)) == number


@pytest.mark.parametrize("text", [
    "", " ", " 1", "1 ", "-1", "+1", "1.0", "1e3", "\u00b2", "\u0663", "\uff11", "1_000", "1 2", "1000000000",
])
def test_what_is_no_number(text):
    assert whole_number(text) is None


@given(height=st.integers(1, 99_999), width=st.integers(1, 99_999), separator=st.sampled_from("xX"))
def test_sizes(height, width, separator):
    assert size_hw("--size", f"{height}{separator}{width}") == (height, width)
    assert size_hw("--size", str(height), square=True) == (height, height)


@pytest.mark.parametrize("text", ["", "x", "256", "256x", "x256", "0x256", "256x0", "1x2x3", "²x2", "-1x5"])
def test_what_is_no_size(text):
    with pytest.raises(InputError, match=r"^--frame .*: give HEIGHTxWIDTH in pixels, such as 256x256$"):
        size_hw("--frame", text)


def test_lists_of_numbers():
    assert whole_numbers("--roi", "1, 2,3,4", ",", 4) == (1, 2, 3, 4)
    for text in ("1,2,3", "1,2,3,4,5", "a,2,3,4", ""):
        with pytest.raises(InputError, match=r"^--roi .*give 4 whole numbers, separated by ','$"):
            whole_numbers("--roi", text, ",", 4)


@pytest.mark.parametrize("text, found", [
    ("9108", ("127.0.0.1", 9108)), (":80", ("127.0.0.1", 80)), ("0.0.0.0:80", ("0.0.0.0", 80)),
    ("[::1]:8080", ("::1", 8080)),
])
def test_ports(text, found):
    assert host_port("--serve", text) == found


@pytest.mark.parametrize("text", ["", "host", "host:", "65536", "a:b"])
def test_what_is_no_port(text):
    with pytest.raises(InputError, match="^--serve .*: give PORT or HOST:PORT$"):
        host_port("--serve", text)
