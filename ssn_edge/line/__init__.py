"""A production line: sources of frames, the loop that runs for weeks, and where results go."""
