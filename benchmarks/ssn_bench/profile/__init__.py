"""Where the time goes: stages, layers, multiply-accumulates, roofline. No torch."""
