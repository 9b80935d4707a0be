"""A float32 graph rewritten for half precision: what it computes is the same, what is rounded is smaller."""
