"""From score and anomaly map to OK or NG, a mask, regions and pictures.

Internal but for what ssn_edge exports (``Detection``, ``Judge``, ``Latency``, ``Region``).
"""
