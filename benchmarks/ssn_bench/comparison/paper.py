"""Table 6 and the figures of Figure 1, as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Optional

TABLE: Dict[str, Any] = json.loads(Path(__file__).with_name("table6.json").read_text())

OURS = "SuperSimpleNet"


def figure(method: str, column: str) -> Optional[float]:
    """A method's figure in Table 6; None where there is none."""
    row = TABLE["methods"].get(method)
    value = None if row is None else row[TABLE["columns"].index(column)]
    if value is None:
        value = TABLE["elsewhere"].get(method, {}).get(column)
    return value
