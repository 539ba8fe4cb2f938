"""Commands that show an explanation in 3D Slicer's way: scene, render."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from Agg2ExpLib.cli.common import command, progress_of
from Agg2ExpLib.cli.screen import say


def add(commands: Any) -> None:
    """Add these commands."""
    _add_scene(commands)
    _add_render(commands)


def _add_scene(commands: Any) -> None:
    parser = command(commands, "scene", _scene, "save an explanation as a scene that 3D Slicer opens (.mrb)")
    parser.add_argument("folder", metavar="DIR", help="Explanation folder")
    parser.add_argument("--out", required=True, metavar="FILE.mrb", help="scene to write; must not exist")
    parser.add_argument("--overwrite", action="store_true", help="replace a file at --out")
    parser.add_argument(
        "--class", dest="name", metavar="NAME", help="class to show (default: a large one in the middle of the scan)"
    )
    _add_measure(parser)


def _add_render(commands: Any) -> None:
    parser = command(commands, "render", _render, "draw an explanation off screen as 3D Slicer shows it (PNG)")
    parser.add_argument("folder", metavar="DIR", help="Explanation folder")
    parser.add_argument("--out", metavar="DIR", help="folder for the pictures (default: DIR-pictures beside DIR)")
    parser.add_argument(
        "--class",
        dest="names",
        action="append",
        metavar="NAME",
        help="class to draw, repeatable; 'all' draws every one (default: a large one in the middle of the scan)",
    )
    parser.add_argument("--background", choices=("dark", "light"), default="dark")
    _add_measure(parser)


def _add_measure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--measure",
        choices=("mass", "enrichment"),
        default="mass",
        help="what the graph's tubes tell: share of the attribution (mass, default), or times an average region of that size",
    )


def _scene(options: argparse.Namespace) -> None:
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.scene.export import write_scene

    path = write_scene(
        Explanation.load(options.folder),
        Path(options.out),
        name=options.name,
        measure=options.measure,
        overwrite=options.overwrite,
        progress=progress_of(options),
    )
    if options.progress != "json":
        say(f"scene written to {path}; open it in 3D Slicer")


def _render(options: argparse.Namespace) -> None:
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.scene.render import render_explanation

    explanation = Explanation.load(options.folder)
    folder = Path(options.folder).resolve()
    out = Path(options.out) if options.out else folder.with_name(f"{folder.name}-pictures")
    names = explanation.explained if options.names == ["all"] else options.names
    pictures = render_explanation(
        explanation,
        out,
        names=names,
        background=options.background,
        measure=options.measure,
        progress=progress_of(options),
    )
    if options.progress != "json":
        say("\n".join(str(path) for path in pictures))
