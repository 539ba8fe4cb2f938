"""Whether anything can be drawn here: is there an OpenGL that draws without a screen?"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from functools import cache

#: What VTK loads, in its own order, when there is no X display.
_OFFSCREEN = ("libEGL.so.1", "libOSMesa.so.8", "libOSMesa.so.6")
_ADVICE = (
    "install libegl1 and libgl1-mesa-dri (Debian, Ubuntu: apt-get install libegl1 libgl1-mesa-dri; "
    "Fedora: dnf install mesa-libEGL mesa-dri-drivers)"
)
_PROBE = """
import vtkmodules.vtkRenderingOpenGL2
from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow
window = vtkRenderWindow()
window.OffScreenRenderingOn()
window.AddRenderer(vtkRenderer())
window.SetSize(16, 16)
window.Render()
"""


@cache
def why_not_drawn() -> str:
    """Return one sentence that names what to install, or nothing when pictures can be drawn.

    The first call draws a few pixels in a process of its own, which takes about a second: a library without a driver does
    not report an error but ends the process that draws.
    """
    missing = [name for name in ("slicer", "trame_slicer") if not _importable(name)]
    if missing:
        return "pictures need slicer-core and trame-slicer: install agg2exp[scene] (pip install 'agg2exp[scene]')"
    # Windows and macOS bring OpenGL along.
    on_screen = bool(os.environ.get("DISPLAY")) and _loads("libGL.so.1")
    if sys.platform == "linux" and not on_screen and not any(_loads(name) for name in _OFFSCREEN):
        return f"pictures need an OpenGL library that draws without a screen: {_ADVICE}"
    if not _draws():
        return f"pictures need an OpenGL driver, and the one here draws nothing: {_ADVICE}"
    return ""


def _draws() -> bool:
    try:
        done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _importable(name: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


if __name__ == "__main__":
    print(why_not_drawn())
