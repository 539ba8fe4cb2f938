"""The windows of a scan, its stitched segmentation and what is explained of it. Importing this room imports no torch."""

from __future__ import annotations

from typing import Any

#: Reductions A of equation 2 -> what they do.
REDUCTIONS: dict[str, str] = {
    "sum": "sum of the class's logits over its voxels",
    "mean": "mean of the class's logits over its voxels",
    "probability": "mean of the class's logits, weighted by its probability",
}


def __getattr__(name: str) -> Any:
    if name == "Case":
        from Agg2ExpLib.case.case import Case

        return Case
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
