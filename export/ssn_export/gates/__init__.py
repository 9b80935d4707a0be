"""What a graph must satisfy before it is written. No torch."""
