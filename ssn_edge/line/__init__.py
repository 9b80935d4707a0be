"""A production line: the loop that runs for weeks, and where results go.

Internal but for what ssn_edge exports (``sinks``, ``stream``, ``Result``, ``Sink``, ``Summary``).
"""
