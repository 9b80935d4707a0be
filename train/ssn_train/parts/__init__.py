"""Which photos show the same physical part, by what was given or by their looks. No torch."""
