"""Whether anything can be drawn here: is there an OpenGL library that draws without a screen?"""

from __future__ import annotations

import ctypes
import os
import sys

#: What VTK loads, in its own order, when there is no X display.
_OFFSCREEN = ("libEGL.so.1", "libOSMesa.so.8", "libOSMesa.so.6")
_ADVICE = "install libegl1 (Debian, Ubuntu: apt-get install libegl1; Fedora: dnf install mesa-libEGL)"


def why_not_drawn() -> str:
    """Return one sentence that names what to install, or nothing when pictures can be drawn."""
    missing = [name for name in ("slicer", "trame_slicer") if not _importable(name)]
    if missing:
        return "pictures need slicer-core and trame-slicer: install agg2exp[scene] (pip install 'agg2exp[scene]')"
    if sys.platform != "linux":
        # Windows and macOS bring OpenGL along.
        return ""
    if os.environ.get("DISPLAY") and _loads("libGL.so.1"):
        return ""
    if not any(_loads(name) for name in _OFFSCREEN):
        return f"pictures need an OpenGL library that draws without a screen: {_ADVICE}"
    return ""


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
