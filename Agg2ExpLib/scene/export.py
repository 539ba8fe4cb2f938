"""An explanation written as a scene file, and everything that is seen of it beside its folder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.scene.arrange import arrange, first_class
from Agg2ExpLib.scene.opengl import why_not_drawn
from Agg2ExpLib.scene.render import render_explanation
from Agg2ExpLib.scene.saving import check_target, quiet_vtk, save_scene
from Agg2ExpLib.scene.showing import Measure, show_explanation
from Agg2ExpLib.scene.views import new_scene

if TYPE_CHECKING:
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.progress import Progress

_INSTALL = "slicer-core is not installed: pip install 'agg2exp[scene]'"


def write_scene(
    explanation: Explanation,
    path: Path,
    *,
    name: str | None = None,
    measure: Measure = "mass",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a scene that the desktop Slicer opens with everything in sight.

    Parameters
    ----------
    explanation : Explanation
        What is shown.
    path : Path
        Ends in ``.mrb``.
    name : str, optional
        The class that is shown first; see :func:`~Agg2ExpLib.scene.arrange.first_class`.
    measure : {"mass", "enrichment"}
        What chart and graph tell.
    overwrite : bool
        Replace a file that is there.
    progress : Progress, optional
        Told about each step.

    Raises
    ------
    InputError
        A class without attribution; slicer-core is not installed.
    OutputError
        The file cannot be written.
    """
    if find_spec("slicer") is None:
        raise InputError(_INSTALL)
    check_target(path, overwrite=overwrite)
    if progress:
        progress.stage("scene", 3, "CT, structures, table")
    with quiet_vtk():
        shown = show_explanation(explanation, new_scene())
        if name is not None:
            shown.check_class(name)
        name = name or first_class(shown)
        if progress:
            progress.advance(detail=f"attribution of {name}" if name else "views")
        arrange(shown, name, measure=measure)
        if progress:
            progress.advance(detail="file")
        save_scene(shown.scene, path, overwrite=overwrite)
    if progress:
        progress.advance()
    return path


def write_all(explanation: Explanation, out: Path, *, overwrite: bool = False, progress: Progress | None = None) -> str:
    """Write ``scene.mrb`` and ``pictures/`` into a folder, as far as this machine can; return the text that says what.

    What cannot be made is named with the reason, in one sentence, and nothing else suffers from it.
    """
    lines = [f"{out}/"]
    if find_spec("slicer") is None:
        return f"no scene and no pictures: {_INSTALL}"
    write_scene(explanation, out / "scene.mrb", overwrite=overwrite, progress=progress)
    lines.append("  scene.mrb                             opens in 3D Slicer: slices, 3D, table and chart of one class")
    reason = why_not_drawn()
    if reason:
        lines.append(f"  no pictures/: {reason}")
    else:
        pictures = render_explanation(explanation, out / "pictures", progress=progress)
        kinds = ", ".join(path.name for path in pictures)
        lines.append(f"  pictures/                             {kinds}")
    return "\n".join(lines)
