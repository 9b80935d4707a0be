"""Images to a trained checkpoint. Submodules import torch where they need it; this one does not."""
