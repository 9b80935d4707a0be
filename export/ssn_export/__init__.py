"""A run folder to a deployable model file. Submodules import torch where they need it."""
