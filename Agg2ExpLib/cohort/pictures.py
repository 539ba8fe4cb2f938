"""The report's pictures as PNG bytes; heat maps, box plots and graphs are those of the figures room."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from Agg2ExpLib import figures

_DPI = 110
# Beyond this many names a graph is a page of its own, not a picture of a report.
_LARGEST = 60


def heat_map(
    matrix: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    measure: str,
    title: str,
    half_widths: np.ndarray | None = None,
    extra: Sequence[str] = (),
) -> bytes:
    """Draw a classes x regions matrix: ``mass`` (shares) or ``enrichment`` (ratios)."""
    return _png(figures.heat_map(matrix, rows, columns, measure, half_widths=half_widths, extra=extra, title=title))


def box_plots(values: np.ndarray, cases: Sequence[str], names: Sequence[str], title: str, axis: str) -> bytes:
    """Draw the distribution over cases of one share per name."""
    return _png(figures.box_plots(values, cases, names, "mass", title=title, axis=axis))


def graph(matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str], extra: Sequence[str] = ()) -> bytes | None:
    """Draw each class's three strongest sources as a graph; ``None`` where there are too many names for a picture."""
    if len(columns) > _LARGEST:
        return None
    return _png(figures.draw_graph(matrix, rows, columns, "enrichment", extra=extra))


def scatter(scores: np.ndarray, dice: np.ndarray, title: str, curve: Sequence[tuple[float, float, int]] = ()) -> bytes:
    """Draw anomaly score against Dice, and the calibration curve of predicted Dice beside it."""
    figure, axes = _sheet(9.0, 3.6, 2)
    axes[0].scatter(scores, dice, s=12, alpha=0.6, color="#1f4e79")
    axes[0].set_xlabel("mean anomaly score (higher is odder)")
    axes[0].set_ylabel("mean Dice")
    axes[0].set_title(title, fontsize=9)
    if curve:
        predicted, observed = [point[0] for point in curve], [point[1] for point in curve]
        span = [min(predicted + observed), max(predicted + observed)]
        axes[1].plot(span, span, color="0.6", linewidth=0.8)
        axes[1].plot(predicted, observed, "o-", color="#1f4e79")
        axes[1].set_xlabel("Dice predicted from the score (held out)")
        axes[1].set_ylabel("Dice observed")
        axes[1].set_title("Calibration in five groups of cases (grey: perfect)", fontsize=9)
    else:
        axes[1].set_axis_off()
    return _png(figure)


def histogram(values: np.ndarray, marks: Sequence[tuple[str, float]], title: str, axis: str) -> bytes:
    """Draw a distribution with named values marked in it."""
    figure, axes = _sheet(7.0, 2.6)
    axes.hist(values[np.isfinite(values)], bins=30, color="#b8c7d6", edgecolor="white")
    for number, (name, value) in enumerate(marks):
        axes.axvline(value, color="#a02020", linewidth=1.0)
        # The oddest lie at the right edge: their names stand to the left of their lines.
        axes.annotate(name, (value, 0.92 - 0.13 * number), xycoords=("data", "axes fraction"), fontsize=7, color="#a02020",
                      ha="right", xytext=(-3, 0), textcoords="offset points",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8})  # fmt: skip
    axes.set_xlabel(axis)
    axes.set_ylabel("cases")
    axes.set_title(title, fontsize=9)
    return _png(figure)


def _sheet(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    # Without pyplot there is no window and no state between figures.
    figure = Figure(figsize=(min(width, 24.0), min(height, 24.0)), layout="constrained")
    return figure, figure.subplots(1, columns)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": "Agg2Exp"})
    return buffer.getvalue()
