"""Which Python computes, and which program it runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import Agg2ExpLib
from Agg2ExpLib.errors import InputError

#: Slicer setting that names another Python: a lab's environment with its own torch, or a custom build of Slicer.
INTERPRETER_SETTING = "Agg2Exp/PythonExecutable"


def interpreter(chosen: str = "") -> str:
    """Return the Python that computes.

    Parameters
    ----------
    chosen : str
        What the setting says; empty takes the PythonSlicer that belongs to this Slicer.

    Raises
    ------
    InputError
        Nothing is there, with what to set.
    """
    if chosen:
        found = shutil.which(os.path.expanduser(chosen))
        if not found:
            raise InputError(
                f"{chosen} is not a program that can be run; set {INTERPRETER_SETTING} in Slicer's settings to a Python "
                "that has Agg2Exp's packages, or clear it"
            )
        return found
    name = "PythonSlicer.exe" if os.name == "nt" else "PythonSlicer"
    # SLICER_HOME is set by Slicer's launcher; an installed Slicer may not have its bin folder on the path.
    places = [os.path.join(home, "bin") for home in (os.environ.get("SLICER_HOME"),) if home]
    found = next((hit for place in [*places, None] if (hit := shutil.which(name, path=place))), None)
    if not found:
        raise InputError(
            "PythonSlicer is not found in this Slicer; name the Python interpreter that is to run Agg2Exp in the setting "
            f"{INTERPRETER_SETTING}"
        )
    return found


def program() -> str:
    """Return the path of the program that the child runs; it needs no PYTHONPATH."""
    return str(Path(Agg2ExpLib.__file__).resolve().parent / "cli" / "__main__.py")
