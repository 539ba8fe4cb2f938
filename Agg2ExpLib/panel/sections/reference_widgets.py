"""The widgets about the reference in the anomaly section; what they do is in reference_view.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ReferenceWidgets:
    """Picture, its words, plot button, colour box, and what the colours mean."""

    picture: Any
    words: Any
    plot: Any
    coloured: Any
    key: Any
