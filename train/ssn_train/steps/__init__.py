"""One optimizer step: as published, the same at the features' own resolution, and from single positions."""
