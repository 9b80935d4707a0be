"""Which photos show the same physical part, by what was given. No torch."""
