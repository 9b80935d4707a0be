"""A model file to milliseconds and images per second. Only the eager baseline imports torch."""
