"""Models made for comparison, in torch: other methods, random weights, eager PyTorch."""
