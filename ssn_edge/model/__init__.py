"""What a model is on the disk: its description, the bundle, what its files say of themselves.

Internal but for what ssn_edge exports (``ModelInfo``, ``Verdict``).
"""
