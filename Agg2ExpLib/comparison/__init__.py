"""Attribution methods compared on the same cases: the paper's Table 1 for one's own model.

Importing this package, and reading its tables, needs no torch.
"""

from __future__ import annotations

from typing import Any

from Agg2ExpLib.comparison.plan import MethodSpec, Plan

__all__ = ["MethodSpec", "Plan", "compare_methods"]


def __getattr__(name: str) -> Any:
    if name == "compare_methods":
        from Agg2ExpLib.comparison.run import compare_methods

        return compare_methods
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
