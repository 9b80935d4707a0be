"""Names of nodes, as inference libraries repeat them in the names of their layers, and of stages."""

from __future__ import annotations

import re

OUR_NODES = re.compile(r"(?:(?:backbone|heads|front|verdict)[\w.]*/)?[A-Z][A-Za-z]*_\d+")
"""Names that ssn-export gives to nodes: ``heads.score/MatMul_46``, ``Sigmoid_59``."""

STAGES = ("input", "backbone", "projection", "spatial", "classification", "post", "copies")
"""``stages.py`` says what belongs to each."""
