"""``python -m ssn_bench.soak``: a line with faults, for hours. No torch."""
