"""Bundles: written, packed, listed. No torch."""
