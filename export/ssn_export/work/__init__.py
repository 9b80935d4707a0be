"""What a graph computes and moves at least, by stage, and what cards can do in a second. No torch."""
