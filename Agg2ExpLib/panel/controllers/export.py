"""What leaves the panel: tables, figures, folders, and the report of the environment."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.words.importance_rows import Row
from Agg2ExpLib.storage import write_table

if TYPE_CHECKING:
    from Agg2ExpLib.panel.controllers.presenter import Presenter
    from Agg2ExpLib.panel.current_explanation import CurrentExplanation
    from Agg2ExpLib.panel.sections.results import ResultsSection

#: Columns of the exported table: the field's terms.
COLUMNS = ("explained", "region", "name", "mass_accuracy", "enrichment", "positive", "negative", "voxels", "recomputed")


def figures_available() -> bool:
    """Whether this version draws figures, and the computing Python can be asked to."""
    return importlib.util.find_spec("Agg2ExpLib.figures") is not None


def figures_folder(shown: CurrentExplanation) -> Path:
    """Return where the figures of an explanation are drawn: in its own folder."""
    return shown.folder / "figures"


def offered(shown: CurrentExplanation, *, busy: bool) -> dict[str, tuple[str, bool]]:
    """Return what can be saved: text -> kind, and whether it can be now; the text says why not.

    Parameters
    ----------
    shown : CurrentExplanation
        What is shown.
    busy : bool
        Whether the user waits for a task: a second one would take its progress and its Cancel away.
    """
    computed = figures_available() and shown.computed_here and not busy
    dicom = shown.in_scene is not None and bool(shown.in_scene.explanation.document["image"].get("dicom"))
    wait = _(" (after the running task)") if busy else ""
    no_series = "" if dicom or not shown.computed_here else _(" (the scan is no DICOM series)")
    return {
        _("Table of this structure (CSV)"): ("row", True),
        _("Table of all structures (CSV)"): ("table", True),
        _("Figures") + wait: ("figures", computed),
        _("Page for a browser (HTML)") + wait: ("html", computed),
        _("DICOM into the study of the scan") + (no_series or wait): ("dicom", computed and dicom),
        _("Whole Explanation folder"): ("folder", True),
    }


def ask_and_export(
    presenter: Presenter, results: ResultsSection, shown: CurrentExplanation, *, busy: bool = False
) -> None:
    """Let the user choose what to save and where."""
    menu = qt.QMenu(results.frame)
    kinds = offered(shown, busy=busy)
    for text, (_kind, possible) in kinds.items():
        menu.addAction(text).setEnabled(possible)
    button = results.buttons["export"]
    picked = menu.exec_(button.mapToGlobal(qt.QPoint(0, int(widgets.read(button, "height")))))
    if picked is not None:
        export(presenter, results, shown, kinds[str(widgets.read(picked, "text"))][0])


def export(presenter: Presenter, results: ResultsSection, shown: CurrentExplanation, kind: str) -> None:
    """Ask where to, and save: ``row``, ``table``, ``figures``, ``html``, ``dicom`` or ``folder``."""
    if kind in ("folder", "figures", "dicom"):
        target = qt.QFileDialog.getExistingDirectory(results.frame, _("Save into the folder"))
        if target and kind == "folder":
            copy_folder(shown, Path(target))
        elif target and kind == "dicom":
            presenter.export(shown, kind, Path(target) / f"{shown.folder.name}-dicom")
        elif target:
            presenter.draw_figures(shown, Path(target))
        return
    if kind == "html":
        title, ending, kinds = _("Save the page"), ".html", _("Pages ({patterns})")
    else:
        title, ending, kinds = _("Save the table"), ".csv", _("Tables ({patterns})")
    found = qt.QFileDialog.getSaveFileName(
        results.frame, title, f"{shown.title}{ending}", kinds.format(patterns=f"*{ending}")
    )
    path = found[0] if isinstance(found, tuple) else found
    if path and kind == "html":
        presenter.export(shown, kind, Path(path))
    elif path and kind == "row":
        write_rows(Path(path), shown.structure, results.table.rows)
    elif path:
        shown.table.to_long_csv(path)


def write_rows(path: Path, explained: str, rows: Sequence[Row]) -> None:
    """Write the shown table with full numbers.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    numbers = [[repr(value) for value in (row.share, row.enrichment, row.positive, row.negative)] for row in rows]
    lines = [
        [explained, row.region, row.name, *values, row.voxels, "yes" if row.live else "no"]
        for row, values in zip(rows, numbers, strict=True)
    ]
    write_table(path, COLUMNS, lines)


def copy_folder(shown: CurrentExplanation, target: Path) -> Path:
    """Copy the whole Explanation folder.

    Raises
    ------
    OutputError
        It is gone, or there is no room.
    """
    copy = target / shown.folder.name
    try:
        shutil.copytree(shown.folder, copy)
    except (OSError, shutil.Error) as error:
        raise OutputError(f"{shown.folder} cannot be copied to {copy}; choose another place") from error
    return copy


def environment_lines(found: dict[str, Any]) -> list[str]:
    """Return the report of the environment as lines that can be copied."""
    from Agg2ExpLib.environment import describe_environment

    return [_slicer(), *describe_environment(found).splitlines()]


def _slicer() -> str:
    """Return which Slicer this is: a report of a problem begins with it."""
    import slicer

    told = [str(getattr(slicer.app, name, "") or "") for name in ("applicationVersion", "revision", "platform")]
    return "3D Slicer " + (", ".join(part for part in told if part) or "of unknown version")


def environment_summary(found: dict[str, Any]) -> str:
    """Return the one sentence that decides: can an explanation be computed here, and on what."""
    missing, problems = list(found.get("missing", [])), list(found.get("problems", []))
    if missing:
        return _("Missing packages: {names}. Press Apply to install them. The log has the whole report.").format(
            names=", ".join(missing)
        )
    if problems:
        return _("{problem}. The log has the whole report.").format(problem=problems[0])
    usable = [device["name"] for device in found.get("devices", []) if device.get("ok")]
    broken = [
        _("{device} does not run ({problem}).").format(device=one["name"], problem=one["problem"])
        for one in found.get("devices", [])
        if not one.get("ok")
    ]
    ready = _("Ready: {devices}.").format(devices=", ".join(usable))
    return " ".join([ready, *broken, _("The log has the whole report.")])


def quality_lines(folder: Path) -> list[str]:
    """Return the table of a comparison of methods as lines for the log.

    Raises
    ------
    InputError
        It is incomplete.
    """
    try:
        return (folder / "quality_table.md").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder} has no readable quality_table.md ({error}); compare methods again") from error
