"""An explanation in words and numbers for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from Agg2ExpLib.anatomy import SYSTEMS, structure

if TYPE_CHECKING:
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.importance import ImportanceTable

_NAME_WIDTH = 24
# Beyond this many regions a matrix no longer fits a terminal; the list of top sources still does.
_WIDEST = 24
_SYSTEM_WIDTH = 9


def describe(explanation: Explanation) -> str:
    """Return what a person wants to read after a run: the matrix, the strongest sources, and where the files are."""
    document, table = explanation.document, explanation.importance
    settings = document["settings"]
    method = settings["method"] + (f", {settings['samples']} samples" if settings.get("samples") else "")
    parts = [
        f"{document['image']['name']} explained with {document['model']['name']} ({method}, {document['device']}) "
        f"in {clock(document['timings']['total_seconds'])}"
    ]
    parts += [f"  note: {text}" for text in document["messages"]]
    parts += [
        "",
        *(importance_matrix(table) if len(table.rois) <= _WIDEST else grouped_matrix(table, explanation.labels)),
    ]
    parts += ["", *strongest_sources(table), ""]
    parts += [
        f"{explanation.folder}/",
        "  importance.csv, importance_long.csv   the tables",
        "  prediction.nii.gz                     segmentation on the scan's own grid",
        "  attributions/<class>.nii.gz           what each class's prediction depended on, voxel by voxel",
        "  explanation.json                      everything needed to repeat it",
    ]
    return "\n".join(parts)


def importance_matrix(table: ImportanceTable) -> list[str]:
    """Lines of the mass matrix in percent; columns are numbered as in the legend that follows."""
    mass = table.matrix("mass") * 100.0
    numbers = {roi: index for index, roi in enumerate(table.rois)}
    lines = [
        "RoI importance: share of each class's attribution that lies in each region, % (a dot is under 0.5)",
        " " * (_NAME_WIDTH + 4) + "".join(f"{index:>4}" for index in range(len(table.rois))),
    ]
    for row, name in enumerate(table.classes):
        cells = "".join(_cell(value) for value in mass[row])
        number = f"{numbers[name]:>3} " if name in numbers else "    "
        lines.append(f"{number}{_readable(name):<{_NAME_WIDTH}.{_NAME_WIDTH}}{cells}")
    others = [roi for roi in table.rois if roi not in table.classes]
    if others:
        told = "columns without a row: " + ", ".join(f"{numbers[roi]} {_readable(roi)}" for roi in others)
        indent = " " * 4
        lines += textwrap.wrap(told, width=110, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return lines


def grouped_matrix(table: ImportanceTable, labels: Sequence[str]) -> list[str]:
    """Lines of the mass matrix of many regions in percent, the model's classes put together by body system.

    Regions of the user's own may overlap the classes, so they are left out.
    """
    mass = np.nan_to_num(table.matrix("mass")) * 100.0
    systems = np.array([structure(roi).system if roi in labels else "" for roi in table.rois])
    names = [name for name in SYSTEMS if name in systems]
    shares = np.stack([mass[:, systems == name].sum(axis=1) for name in names], axis=1)
    lines = [
        "RoI importance by body system: share of each class's attribution that lies in the system's classes, %",
        " " * (_NAME_WIDTH + 4) + "".join(f"{name[:_SYSTEM_WIDTH]:>{_SYSTEM_WIDTH + 1}}" for name in names),
    ]
    ranks = [list(SYSTEMS).index(structure(name).system) for name in table.classes]
    order = sorted(range(len(ranks)), key=lambda row: ranks[row])
    for row in order:
        if np.isfinite(table.matrix("mass")[row]).any():
            cells = "".join(f"{_cell(value):>{_SYSTEM_WIDTH + 1}}" for value in shares[row])
            lines.append(f"    {_readable(table.classes[row]):<{_NAME_WIDTH}.{_NAME_WIDTH}}{cells}")
    absent = len(table.classes) - (len(lines) - 2)
    return [*lines, f"    {absent} classes are absent from the prediction"] if absent else lines


def strongest_sources(table: ImportanceTable, count: int = 3) -> list[str]:
    """Lines that name, per class, the regions used most for their size (enrichment)."""
    enrichment, mass = table.matrix("enrichment"), table.matrix("mass")
    lines = [
        "What each class relied on most for its size (times what an average region of that size holds; share in brackets)"
    ]
    for row, name in enumerate(table.classes):
        values = np.where(np.isfinite(enrichment[row]), enrichment[row], -np.inf)
        best = [index for index in np.argsort(-values)[:count] if np.isfinite(values[index])]
        told = ", ".join(f"{_readable(table.rois[i])} {values[i]:.1f}x ({100 * mass[row, i]:.0f}%)" for i in best)
        lines.append(f"    {_readable(name):<{_NAME_WIDTH}.{_NAME_WIDTH}} {told or 'absent from the prediction'}")
    return lines


def clock(seconds: float) -> str:
    """Return seconds as people say them.

    Examples
    --------
    >>> clock(83.2), clock(4.21)
    ('1 min 23 s', '4.2 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _readable(identifier: str) -> str:
    return structure(identifier).name


def _cell(percent: float) -> str:
    if not np.isfinite(percent):
        return "   -"
    return f"{percent:>4.0f}" if percent >= 0.5 else "   ."
