"""The detector for C programs: ``ssn_edge.h`` and libssn_edge.so, made by ``make c``."""
