"""Agg2Exp: what did a 3D segmentation network look at, and can it be trusted for this patient?

The names below are loaded on first use, so that ``import Agg2ExpLib`` is instant and needs no torch.

Examples
--------
>>> import Agg2ExpLib
>>> Agg2ExpLib.__version__
'0.1.0'
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Case": "case",
    "Explanation": "explanation",
    "Request": "request",
    "explain": "explanation",
    "from_module": "models",
    "load_model": "models",
    "request_of": "request",
    "Volume": "volume",
    "read_volume": "volume",
}
__all__ = [*_PUBLIC, "__version__"]  # noqa: PLE0604 - the names are strings, built from the table


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'Agg2ExpLib' has no attribute {name!r}")
    return getattr(importlib.import_module(f"Agg2ExpLib.{_PUBLIC[name]}"), name)
