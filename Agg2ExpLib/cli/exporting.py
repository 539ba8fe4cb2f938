"""The command that hands an explanation to other programs: export."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from Agg2ExpLib.cli.common import class_list, command, progress_of
from Agg2ExpLib.cli.screen import say
from Agg2ExpLib.errors import InputError, OutputError


def add(commands: Any) -> None:
    """Add this command."""
    parser = command(
        commands, "export", _export, "write an explanation for an archive (DICOM) or for a browser (one HTML page)"
    )
    parser.add_argument("folder", metavar="DIR", help="Explanation folder")
    parser.add_argument(
        "--dicom",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="write parametric maps, segmentations and a structured report into the study of the scan (default DIR-dicom)",
    )
    parser.add_argument(
        "--html",
        nargs="?",
        const="",
        metavar="FILE",
        help="write one page with slices to scroll and the table (default DIR.html)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a page that exists; DICOM never is")
    parser.add_argument(
        "--source",
        metavar="SERIES",
        help="folder of the scan's DICOM series: where it was moved to, or what a NIfTI scan was made from",
    )
    parser.add_argument(
        "--classes",
        metavar="A,B",
        help="explained classes to export; 'all' for every one (default: DICOM all, the page the 6 largest of more than 24)",
    )


def _export(options: argparse.Namespace) -> None:
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.export import write_dicom, write_page
    from Agg2ExpLib.figures.case import named_classes

    if options.dicom is None and options.html is None:
        raise InputError("nothing was asked for; add --dicom, --html or both")
    if options.source is not None and options.dicom is None:
        raise InputError("--source names a DICOM series, which only --dicom needs; add --dicom or leave it out")
    explanation = Explanation.load(options.folder)
    folder = Path(options.folder).resolve()
    chosen = class_list(options.classes)
    classes = None if chosen is None else named_classes(explanation, chosen)
    path = Path(options.html or folder.with_name(f"{folder.name}.html"))
    if options.html is not None and path.exists() and not options.overwrite:
        # Before the DICOM objects, which take minutes.
        raise OutputError(f"{path} exists already; give another --html, or --overwrite")
    progress = progress_of(options)
    files = []
    if options.dicom is not None:
        out = Path(options.dicom or folder.with_name(f"{folder.name}-dicom"))
        files += write_dicom(explanation, out, source=options.source, classes=classes, progress=progress)
    if options.html is not None:
        files.append(write_page(explanation, path, classes=classes, overwrite=options.overwrite, progress=progress))
    if options.progress != "json":
        say("\n".join(map(str, files)))
