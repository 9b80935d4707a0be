"""The choices of a run: settings, presets, ablations. No torch."""
