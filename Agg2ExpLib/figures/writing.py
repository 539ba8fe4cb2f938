"""Figures on disk: PNG and SVG, each complete or not there, and the same bytes for the same figure."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.figures.style import drawing
from Agg2ExpLib.storage import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")


def write_figure(
    figure: Figure, folder: str | Path, name: str, *, formats: tuple[str, ...] = FORMATS, dpi: float = 150
) -> list[Path]:
    """Write a figure as ``folder/name.png`` and ``folder/name.svg``.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Any figure of this package.
    folder : path
        Made when it is not there.
    name : str
        File name without its ending.
    formats : tuple of str
        Of ``"png"`` and ``"svg"``.
    dpi : float
        Pixels per inch of the PNG, and of pictures inside the SVG.

    Returns
    -------
    list of Path
        The files, in the order of ``formats``.

    Raises
    ------
    InputError
        Another format.
    OutputError
        The folder cannot be made or a file cannot be written; no half a file is left.
    """
    for kind in formats:
        if kind not in FORMATS:
            raise InputError(f"unknown format {kind!r} of a figure: use {' or '.join(FORMATS)}")
    folder = Path(folder)
    make_folder(folder)
    written = []
    for kind in formats:
        content = rendered(figure, kind, dpi)
        written.append(folder / f"{name}.{kind}")
        write_file(written[-1], content)
    return written


def make_folder(folder: Path) -> None:
    """Make a folder where there is none.

    Raises
    ------
    OutputError
        It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {folder}: {error.strerror}; choose another --out") from error


def rendered(figure: Figure, kind: str = "png", dpi: float = 150) -> bytes:
    """Return a figure as the bytes of a file, ``png`` or ``svg``; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    # A date or a version would make two equal figures differ.
    metadata = {"Date": None, "Creator": "Agg2Exp"} if kind == "svg" else {"Software": "Agg2Exp"}
    with drawing("light"):
        figure.savefig(buffer, format=kind, dpi=dpi, facecolor=figure.get_facecolor(), metadata=metadata)
    return buffer.getvalue()
