"""The Explanation folder that every other half reads, and the sinks that :func:`explain` fills.

Importing this package, and reading a folder with it, needs no torch.
"""

from __future__ import annotations

from typing import Any

from Agg2ExpLib.explanation.folder import Explanation

__all__ = ["Explanation", "Result", "explain"]


def __getattr__(name: str) -> Any:
    if name == "explain":
        from Agg2ExpLib.explanation.run import explain

        return explain
    if name == "Result":
        from Agg2ExpLib.explanation.result import Result

        return Result
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
