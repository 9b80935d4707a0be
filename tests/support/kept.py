"""A sink for tests of streams."""


class Kept:
    """A sink that remembers; ``wait(result)`` before each result."""

    name = "kept"

    def __init__(self, wait=lambda result: None):
        self.numbers, self.closed, self._wait = [], 0, wait

    def write(self, result):
        self._wait(result)
        self.numbers.append(result.number)

    def close(self):
        self.closed += 1
