"""Metrics, tables and pictures of a run. No torch."""
