"""One case explained: :func:`explain`, and the Explanation folder that every other half reads.

Importing this package, and reading a folder with it, needs no torch.
"""

from __future__ import annotations

from typing import Any

from Agg2ExpLib.explanation.folder import Explanation
from Agg2ExpLib.explanation.settings import Settings

__all__ = ["Explanation", "Settings", "explain"]


def __getattr__(name: str) -> Any:
    if name == "explain":
        from Agg2ExpLib.explanation.run import explain

        return explain
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
