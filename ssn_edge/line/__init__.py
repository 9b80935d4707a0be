"""A production line: sources of frames, the loop that runs for weeks, and where results go.

Internal but for what ssn_edge exports (``sinks``, ``sources``, ``stream``, ``shared_memory``, ``Frame``,
``Result``, ``Sink``, ``Source``, ``Summary``).
"""
