"""The command lines of the child process: which Python, which command, which options."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
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


def explain_command(
    python: str,
    image: str | Path,
    out: str | Path,
    options: Mapping[str, object],
    regions: Mapping[str, str | Path] | None = None,
) -> list[str]:
    """Return the command that explains one scan.

    Parameters
    ----------
    python : str
        The interpreter.
    image, out : path
        Scan, and folder to write.
    options : mapping
        Options of ``agg2exp explain`` by their names; ``None`` and empty texts leave the default, sequences are joined.
    regions : mapping
        Extra regions: name -> mask file.
    """
    command = [python, program(), "explain", str(Path(image).absolute()), f"--out={Path(out).absolute()}"]
    command += [*_options(options), "--progress=json"]
    return command + [f"--roi={name}={Path(file).absolute()}" for name, file in (regions or {}).items()]


def estimate_command(python: str, image: str | Path, options: Mapping[str, object]) -> list[str]:
    """Return the command that says what an explanation would cost."""
    return [python, program(), "estimate", str(Path(image).absolute()), *_options(options), "--progress=json"]


def whatif_command(
    python: str,
    folder: str | Path,
    region: str,
    out: str | Path,
    options: Mapping[str, object],
    mask: str | Path | None = None,
) -> list[str]:
    """Return the command that replaces a region and predicts again."""
    roi = f"{region}={Path(mask).absolute()}" if mask else region
    command = [python, program(), "whatif", str(Path(folder).absolute()), f"--roi={roi}"]
    return [*command, f"--out={Path(out).absolute()}", *_options(options), "--progress=json"]


def figures_command(python: str, folder: str | Path, out: str | Path, options: Mapping[str, object]) -> list[str]:
    """Return the command that draws the figures of an explanation."""
    command = [python, program(), "figures", str(Path(folder).absolute()), f"--out={Path(out).absolute()}"]
    return [*command, *_options(options), "--progress=json"]


def compare_command(python: str, image: str | Path, out: str | Path, options: Mapping[str, object]) -> list[str]:
    """Return the command that measures the quality of several methods on a scan."""
    command = [python, program(), "compare-methods", str(Path(image).absolute()), f"--out={Path(out).absolute()}"]
    return [*command, *_options(options), "--no-randomisation", "--progress=json"]


def score_command(
    python: str, folder: str | Path, profile: str | Path, out: str | Path, false_alarms: float
) -> list[str]:
    """Return the command that scores an explanation against a reference profile."""
    command = [python, program(), "profile", "score", str(Path(folder).absolute())]
    command += [f"--profile={Path(profile).absolute()}", f"--out={Path(out).absolute()}"]
    return [*command, f"--false-alarms={false_alarms:g}", "--progress=json"]


def cohort_command(
    python: str, cases: str | Path, out: str | Path, options: Mapping[str, object], flags: Sequence[str] = ()
) -> list[str]:
    """Return the command that explains many cases; ``flags`` are options without a value, such as ``keep``."""
    command = [python, program(), "cohort", str(Path(cases).absolute()), f"--out={Path(out).absolute()}"]
    return [*command, *_options(options), *(f"--{flag}" for flag in flags), "--progress=json"]


def report_command(python: str, folder: str | Path, out: str | Path) -> list[str]:
    """Return the command that writes the report of a cohort."""
    command = [python, program(), "cohort", "report", str(Path(folder).absolute()), f"--out={Path(out).absolute()}"]
    return [*command, "--progress=json"]


def fit_command(python: str, folder: str | Path, out: str | Path) -> list[str]:
    """Return the command that fits a reference profile to a cohort."""
    command = [python, program(), "profile", "fit", str(Path(folder).absolute()), f"--out={Path(out).absolute()}"]
    return [*command, "--progress=json"]


def environment_command(python: str) -> list[str]:
    """Return the command that lists packages and devices."""
    return [python, program(), "environment", "--progress=json"]


def _options(options: Mapping[str, object]) -> list[str]:
    return [f"--{name}={_value(value)}" for name, value in options.items() if value is not None and value != ""]


def _value(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(str(part) for part in value)
    return str(value)
