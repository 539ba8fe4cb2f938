"""Make the sample figures and renders of this folder from the explanation that ``make demo`` writes.

The pictures of the panel are made by ``python -m Testing.bench.screenshots OUT``.

Usage: python Resources/Screenshots/make_figures.py [DIR]    (DIR: default demo/explanation)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.figures import (
    class_bars,
    context_bars,
    importance_graph,
    importance_heat_map,
    slice_panels,
    write_figure,
)
from Agg2ExpLib.scene.render import render_explanation

HERE = Path(__file__).resolve().parent
# Each file stays below 300 kB.
DPI = 80


def main(folder: Path) -> list[Path]:
    """Write the figures and return their files."""
    case = Explanation.load(folder)
    table, extra = case.importance, case.regions
    figures = {
        "heat_map_mass": importance_heat_map(table, "mass", extra=extra),
        "heat_map_enrichment": importance_heat_map(table, "enrichment", extra=extra, background="dark"),
        "graph_mass": importance_graph(table, "mass", extra=extra),
        "graph_enrichment": importance_graph(table, "enrichment", extra=extra, background="dark"),
        "context": context_bars(table),
        "bars_trachea": class_bars(table, "trachea", extra=extra),
        "slices_heart": slice_panels(case, "heart", background="dark"),
        "slices_trachea": slice_panels(case, "trachea", background="light"),
    }
    drawn = [
        file for name, figure in figures.items() for file in write_figure(figure, HERE, name, formats=("png",), dpi=DPI)
    ]
    return drawn + scene_views(case)


def scene_views(case: Explanation) -> list[Path]:
    """Write what 3D Slicer's own views show of the heart, smaller and with fewer colours than ``agg2exp render`` does."""
    from PIL import Image

    written = []
    with tempfile.TemporaryDirectory() as folder:
        render_explanation(case, Path(folder) / "pictures", names=["heart"])
        for view in ("axial", "graph", "surfaces"):
            picture = (
                Image.open(Path(folder) / "pictures" / f"heart-{view}.png")
                .convert("RGB")
                .resize((800, 640), Image.Resampling.LANCZOS)
            )
            written.append(HERE / f"scene_{view}.png")
            # Of the ways to choose colours this one keeps the few bright ones that carry the meaning.
            picture.quantize(256, Image.Quantize.MAXCOVERAGE).save(written[-1], optimize=True)
    return written


if __name__ == "__main__":
    for written in main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo/explanation")):
        print(written)
