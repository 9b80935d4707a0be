"""Promised and observed false alarms: on real tiles split by tile, and on thousands of made-up parts."""
