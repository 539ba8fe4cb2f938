"""A scene as one .mrb file, and back: complete, or not there."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.storage import new_file

SUFFIX = ".mrb"
# Masks and tables shrink to a thousandth; a bomb of zeros to less.
_MOST_TIMES_LARGER = 1000


def save_scene(scene: Any, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a scene with everything in it as a Slicer data bundle.

    Parameters
    ----------
    scene : vtkMRMLScene
        What to write.
    path : path
        Ends in ``.mrb``.
    overwrite : bool
        Replace a file that is there.

    Raises
    ------
    OutputError
        Another ending, a file that is there, a folder that cannot be written to.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    # The writer works in a folder of its own, where a relative name would lead elsewhere.
    path = path.absolute()
    with new_file(path) as part, quiet_vtk():
        if not scene.WriteToMRB(str(part)) or not part.is_file() or not part.stat().st_size:
            raise OutputError(f"{path}: the scene cannot be written; free space or choose another --out")
    return path


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a name that no scene can be written to, before the work is done."""
    if path.suffix.lower() != SUFFIX:
        raise OutputError(f"{path}: a scene is written as a {SUFFIX} file; end the name in {SUFFIX}")
    if path.is_dir() or (path.exists() and not overwrite):
        raise OutputError(f"{path} exists already; give another --out, or --overwrite to replace it")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; create it first")


def load_scene(path: str | Path) -> Any:
    """Return a new scene read from a Slicer data bundle; outside of Slicer, whose own loading does more.

    Raises
    ------
    InputError
        The file is missing, no bundle, or claims to be far larger than it can be.
    """
    import zipfile

    from Agg2ExpLib.scene.views import new_scene

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; give a {SUFFIX} file")
    scene = new_scene()
    try:
        with zipfile.ZipFile(path) as bundle, tempfile.TemporaryDirectory() as folder:
            if sum(item.file_size for item in bundle.infolist()) > _MOST_TIMES_LARGER * path.stat().st_size:
                raise InputError(f"{path} claims to hold far more than its size allows; do not use it")
            # Names that point elsewhere are put inside the folder by the standard library.
            bundle.extractall(folder)
            found = sorted(Path(folder).glob("*/*.mrml"))
            if len(found) != 1:
                raise InputError(f"{path} holds {len(found)} scenes instead of one; save it again")
            scene.SetURL(str(found[0]))
            scene.SetRootDirectory(str(found[0].parent))
            with quiet_vtk():
                good = scene.Connect()
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise InputError(f"{path} is not a Slicer data bundle that can be read ({error}); save it again") from error
    if not good:
        raise InputError(f"{path} cannot be read as a scene; save it again")
    return scene


@contextlib.contextmanager
def quiet_vtk() -> Iterator[None]:
    """Keep VTK's own messages off the screen, such as a line for every file of a bundle."""
    from vtkmodules.vtkCommonCore import vtkLogger, vtkOutputWindow, vtkStringOutputWindow

    window, cutoff = vtkOutputWindow.GetInstance(), vtkLogger.GetCurrentVerbosityCutoff()
    vtkOutputWindow.SetInstance(vtkStringOutputWindow())
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)
    try:
        yield
    finally:
        vtkOutputWindow.SetInstance(window)
        vtkLogger.SetStderrVerbosity(cutoff)
