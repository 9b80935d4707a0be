"""Which pixels go where: image files, frames in memory, and the model's image.

Internal but for what ssn_edge exports (``View``).
"""
