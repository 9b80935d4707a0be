"""A training run: settings, steps, the loop, checkpoints, many runs."""
