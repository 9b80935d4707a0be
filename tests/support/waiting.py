"""Waiting for what another thread or process does: by condition, with a deadline only a failure reaches."""

import threading

PATIENCE_S = 60.0


def until(condition, patience_s=PATIENCE_S):
    """The condition's first true value; AssertionError when it stays false."""
    pause, waited = threading.Event(), 0.0
    while True:
        value = condition()
        if value:
            return value
        assert waited < patience_s, f"still not: {condition}"
        pause.wait(0.01)
        waited += 0.01


def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread
