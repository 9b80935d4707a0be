"""Which plan's graph suits a device that is not here: RTX cards and Orins, by rooflines. No torch."""
