"""Where frames come from: images, folders, globs, videos, cameras, streams, pipes and shared memory.

Public are the names below; ``find`` maps what a user typed to a :class:`Source`.
"""

from ssn_edge.sources.addresses import find, find_all, of, open_source
from ssn_edge.sources.source import Account, Frame, Source

__all__ = ["Account", "Frame", "Source", "find", "find_all", "of", "open_source"]
