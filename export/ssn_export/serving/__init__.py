"""Files for inference servers. No torch."""
