"""What is timed, and how. No torch."""
