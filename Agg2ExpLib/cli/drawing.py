"""Commands that draw: figures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from Agg2ExpLib.cli.common import class_list, command, progress_of
from Agg2ExpLib.cli.screen import say


def add(commands: Any) -> None:
    """Add these commands."""
    parser = command(commands, "figures", _figures, "draw the figures of an Explanation folder (PNG and SVG)")
    parser.add_argument("folder", metavar="DIR", help="Explanation folder")
    parser.add_argument(
        "--measure",
        metavar="M",
        help="of heat map and graph: mass, mass-without-background or enrichment (default mass and enrichment)",
    )
    parser.add_argument("--out", metavar="DIR", help="folder for the figures (default DIR/figures)")
    parser.add_argument(
        "--classes",
        metavar="A,B",
        help="classes that get bars and slices of their own; 'all' for every one (default all up to 24, else the 6 largest)",
    )
    parser.add_argument("--background", default="light", metavar="B", help="light (default) or dark")
    parser.add_argument("--background-node", action="store_true", help="make the class background a node of the graph")


def _figures(options: argparse.Namespace) -> None:
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.figures.case import DEFAULT_MEASURES, default_classes, write_case_figures

    explanation = Explanation.load(options.folder)
    classes = class_list(options.classes)
    files = write_case_figures(
        explanation,
        Path(options.out) if options.out else explanation.folder / "figures",
        measures=(options.measure,) if options.measure else DEFAULT_MEASURES,
        classes=classes,
        background=options.background,
        background_node=options.background_node,
        progress=progress_of(options),
    )
    if options.progress == "json":
        return
    chosen = default_classes(explanation)
    if classes is None and len(chosen) < len(explanation.explained):
        say(f"bars and slices of the {len(chosen)} largest classes; name others with --classes, or --classes all")
    say(f"{files[0].parent}/")
    for name in dict.fromkeys(file.stem for file in files):
        say(f"  {name}.png, {name}.svg")
