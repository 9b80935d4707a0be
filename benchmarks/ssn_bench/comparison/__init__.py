"""Ratios with their intervals, and the paper's figures. No torch."""
