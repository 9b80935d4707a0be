"""Signals as a request to stop: the first one asks, the second does what it did before.

In processes of their own: libraries that other tests load (seen with torch and OpenVINO in one process)
leave the main thread an alternate signal stack that is gone, and the next signal ends the process.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ssn_edge

START = """
import signal, threading
from ssn_edge.signals import STOPPING, stop_on_signals
"""


def run(code):
    """What it prints, line by line."""
    environment = {**os.environ, "PYTHONPATH": str(Path(ssn_edge.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", START + code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_the_first_asks_and_the_second_does_what_it_did(number):
    assert run(f"""
signal.signal(signal.{number}, lambda *_: print("before"))
with stop_on_signals(threading.Event()) as stop:
    signal.raise_signal(signal.{number})
    print(stop.is_set())
    signal.raise_signal(signal.{number})
""") == ["True", "before"]


def test_a_repeated_signal_goes_on_asking_where_that_is_wanted():
    assert run("""
before = signal.getsignal(signal.SIGINT)
with stop_on_signals(threading.Event(), (signal.SIGINT,), once=False) as stop:
    for _ in range(2):
        signal.raise_signal(signal.SIGINT)
        print(stop.is_set())
        stop.clear()
print(signal.getsignal(signal.SIGINT) is before)
""") == ["True", "True", "True"]


def test_handlers_are_put_back_after_an_error():
    assert run("""
before = [signal.getsignal(number) for number in STOPPING]
try:
    with stop_on_signals(threading.Event()):
        raise KeyError
except KeyError:
    print([signal.getsignal(number) for number in STOPPING] == before)
""") == ["True"]


def test_in_another_thread_nothing_is_caught():
    assert run("""
before = signal.getsignal(signal.SIGINT)  # not the default's where the tests run in the background

def work():
    with stop_on_signals(threading.Event()):
        print(signal.getsignal(signal.SIGINT) is before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
""") == ["True"]
