"""Queues and counters that do not grow."""

import threading

from ssn_edge.line.queues import KEPT, BoundedQueue, Percentiles


def test_box():
    box = BoundedQueue(2, lossless=False)
    assert [box.put(n) for n in range(4)] == [0, 0, 1, 1]
    assert [box.get(), box.get(), box.get(0.01)] == [2, 3, None]
    waiting = BoundedQueue(1, lossless=True)
    taken = []
    thread = threading.Thread(target=lambda: taken.extend(waiting.put(n) for n in range(50)))
    thread.start()
    assert [waiting.get(1) for _ in range(50)] == list(range(50))
    thread.join()
    assert taken == [0] * 50
    waiting.end()
    assert waiting.done and waiting.get() is None and waiting.put(1) == 1


def test_percentiles_keep_the_newest():
    values = Percentiles()
    assert values.at(50) is None
    for value in range(KEPT + 1000):
        values.add(value)
    assert values.at(0) == 1000 and values.at(100) == KEPT + 999
