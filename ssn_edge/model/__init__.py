"""What a model is on the disk: its description, the bundle, what its files say of themselves."""
