"""A training run: steps, the loop, checkpoints, many runs."""
