"""Commands that draw: figures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from Agg2ExpLib.cli.cohorts import table_of
from Agg2ExpLib.cli.common import class_list, command, progress_of
from Agg2ExpLib.cli.screen import say
from Agg2ExpLib.errors import InputError


def add(commands: Any) -> None:
    """Add these commands."""
    parser = command(
        commands, "figures", _figures, "draw the figures of an Explanation folder or of cohorts (PNG and SVG)"
    )
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="DIR",
        help="Explanation folder; several of one scan: their methods side by side; or a cohort folder, and cohorts to set beside it",
    )
    parser.add_argument(
        "--measure",
        metavar="M",
        help="of heat map and graph: mass, mass-without-background or enrichment (default mass and enrichment)",
    )
    parser.add_argument("--out", metavar="DIR", help="folder for the figures (default DIR/figures)")
    parser.add_argument(
        "--classes",
        metavar="A,B",
        help="classes that get figures of their own; 'all' for every one (default all up to 24, else the 6 largest)",
    )
    parser.add_argument("--background", default="light", metavar="B", help="light (default) or dark")
    parser.add_argument("--background-node", action="store_true", help="make the class background a node of the graph")


def _figures(options: argparse.Namespace) -> None:
    from Agg2ExpLib.cohort.run.store import DOCUMENT

    folders = [Path(folder) for folder in options.folders]
    cohorts = [(folder / DOCUMENT).is_file() for folder in folders]
    if any(cohorts) and not all(cohorts):
        raise InputError(
            f"{folders[cohorts.index(False)]} is no cohort folder; give cohorts alone, or Explanation folders alone"
        )
    out = Path(options.out) if options.out else folders[0] / "figures"
    if all(cohorts):
        files = _of_cohorts(options, folders, out)
    elif len(folders) > 1:
        files = _side_by_side(options, folders, out)
    else:
        files = _of_case(options, folders[0], out)
    if options.progress == "json":
        return
    say(f"{files[0].parent}/")
    for name in dict.fromkeys(file.stem for file in files):
        say("  " + ", ".join(file.name for file in files if file.stem == name))


def _of_case(options: argparse.Namespace, folder: Path, out: Path) -> list[Path]:
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.figures.case import DEFAULT_MEASURES, default_classes, write_case_figures

    explanation = Explanation.load(folder)
    classes = class_list(options.classes)
    files = write_case_figures(
        explanation,
        out,
        measures=(options.measure,) if options.measure else DEFAULT_MEASURES,
        classes=classes,
        background=options.background,
        background_node=options.background_node,
        progress=progress_of(options),
    )
    chosen = default_classes(explanation)
    if options.progress != "json" and classes is None and len(chosen) < len(explanation.explained):
        say(f"bars and slices of the {len(chosen)} largest classes; name others with --classes, or --classes all")
    return files


def _of_cohorts(options: argparse.Namespace, folders: list[Path], out: Path) -> list[Path]:
    from Agg2ExpLib.cohort.report.drawings import write_cohort_figures

    classes = class_list(options.classes)
    return write_cohort_figures(
        folders,
        [table_of(folder) for folder in folders],
        out,
        classes=None if classes == ("all",) else classes,
        background=options.background,
        progress=progress_of(options),
    )


def _side_by_side(options: argparse.Namespace, folders: list[Path], out: Path) -> list[Path]:
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.figures import write_figure
    from Agg2ExpLib.figures.case import default_classes, named_classes
    from Agg2ExpLib.figures.side_by_side import methods_side_by_side
    from Agg2ExpLib.storage import safe_file_name

    opened = [Explanation.load(folder) for folder in folders]
    named = [(str(one.document["settings"].get("method")), one) for one in opened]
    if len({name for name, _ in named}) < len(named):
        named = [(str(folder), one) for folder, one in zip(folders, opened, strict=True)]
    classes = class_list(options.classes)
    if classes is None:
        chosen = tuple(name for name in default_classes(opened[0]) if all(name in one.explained for one in opened))
        if not chosen:
            raise InputError(
                f"{folders[0]} and the other folders have no explained class in common; explain one in each of them"
            )
    else:
        chosen = named_classes(opened[0], classes)
    files: list[Path] = []
    for name in chosen:
        figure = methods_side_by_side(named, name, background=options.background)
        files += write_figure(figure, out, f"methods_{safe_file_name(name)}")
    return files
