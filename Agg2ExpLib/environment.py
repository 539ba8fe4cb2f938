"""What this Python has: packages, and devices that really compute. For error reports and for Slicer's panel."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import Agg2ExpLib

#: What explaining needs, by distribution name.
NEEDED = ("torch", "monai", "numpy", "scipy", "SimpleITK", "safetensors", "einops", "tqdm")
#: What more commands need.
OPTIONAL = ("captum", "shap", "scikit-learn", "matplotlib", "slicer-core", "vtk")


def environment() -> dict[str, Any]:
    """Return versions, missing packages and devices; every device listed has run a small computation, or says why not.

    Returns
    -------
    dict
        ``agg2exp``, ``python``, ``executable``, ``system``, ``cpu_cores``, ``memory_bytes`` (``None`` where the system
        does not tell), ``packages`` (name -> version or ``None``), ``missing`` (needed ones), ``problems`` (sentences)
        and ``devices`` (``id``, ``name``, ``free_bytes``, ``total_bytes``, ``ok``, ``problem``).
    """
    packages = {name: _version(name) for name in (*NEEDED, *OPTIONAL)}
    missing = [name for name in NEEDED if packages[name] is None]
    devices, problems = ([], []) if "torch" in missing else _devices()
    return {
        "agg2exp": Agg2ExpLib.__version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": platform.platform(),
        "cpu_cores": os.cpu_count() or 1,
        "memory_bytes": memory_bytes(),
        "packages": packages,
        "missing": missing,
        "problems": problems,
        "devices": devices,
    }


def memory_bytes() -> int | None:
    """Return the machine's main memory; ``None`` where the system does not tell."""
    try:
        return int(os.sysconf("SC_PAGE_SIZE")) * int(os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _devices() -> tuple[list[dict[str, Any]], list[str]]:
    try:
        from Agg2ExpLib.device import list_devices
    except Exception as error:  # a half-installed torch fails in many ways
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return [], [f"torch is installed but cannot be imported ({first}); install it again"]
    return list_devices(), []


def describe_environment(found: dict[str, Any]) -> str:
    """Return the environment as lines for people.

    Examples
    --------
    >>> lines = describe_environment(environment()).splitlines()
    >>> lines[0].startswith("Agg2Exp")
    True
    """
    lines = [f"Agg2Exp {found['agg2exp']}, Python {found['python']} on {found['system']}", found["executable"]]
    lines += [f"  {name:<14} {number or 'not installed'}" for name, number in found["packages"].items()]
    for device in found["devices"]:
        free = f", {device['free_bytes'] / 1024**3:.1f} GiB free" if device["free_bytes"] else ""
        lines.append(
            f"  {device['id']:<14} {device['name']}{free}" + ("" if device["ok"] else f": {device['problem']}")
        )
    lines += [f"problem: {text}" for text in found["problems"]]
    if found["missing"]:
        lines.append(f"missing: {', '.join(found['missing'])}; pip install agg2exp installs them")
    return "\n".join(lines)
