"""Packages of the computing Python: checked when Apply is first pressed, installed only when the user agrees."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from Agg2ExpLib.panel.compute.pip_failures import explain_failure, pip_words

#: What Slicer brings and must keep: pip must never put another one in its place.
KEPT = ("numpy", "scipy", "SimpleITK", "torch")
#: What an explanation needs beside those; torch comes through the PyTorch extension.
TORCH = "torch>=2.4.1,<3"
REQUIREMENTS = (TORCH, "monai>=1.5,<2", "safetensors>=0.4.3", "einops>=0.8", "tqdm>=4.66")
#: What drawing needs, DICOM objects, and comparing with a reference; none runs a network.
FOR_FIGURES = ("matplotlib>=3.10,<4",)
FOR_DICOM = ("highdicom>=0.24",)
FOR_SCORES = ("scikit-learn>=1.5",)
#: What many cases need: their tables, and more than one process at a time.
FOR_COHORTS = ("pyarrow>=16", *FOR_SCORES, *FOR_FIGURES)
FOR_WORKERS = ("distributed>=2024.9",)
REQUESTER = "Agg2Exp"


@dataclass(frozen=True)
class PackageReport:
    """Whether an explanation can be computed here.

    Attributes
    ----------
    ready : bool
        All packages are there.
    sentence : str
        Why not, and what to do.
    missing : tuple of str
        What is missing.
    lines : tuple of str
        pip's last lines, for the log.
    """

    ready: bool
    sentence: str = ""
    missing: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


#: The oldest Slicer that has what the panel needs.
OLDEST = (5, 10)


def version_problem(application: Any) -> str:
    """Return why this Slicer cannot be used; empty when it can.

    Parameters
    ----------
    application : qSlicerApplication
        Its ``majorVersion`` and ``minorVersion`` are read.
    """
    found = (int(getattr(application, "majorVersion", 99)), int(getattr(application, "minorVersion", 0)))
    if found >= OLDEST:
        return ""
    return (
        f"This is Slicer {found[0]}.{found[1]}; Agg2Exp needs {OLDEST[0]}.{OLDEST[1]} or later, best 5.12: "
        "install a newer Slicer from slicer.org."
    )


def missing_packages(wanted: Sequence[str] = REQUIREMENTS) -> tuple[str, ...]:
    """Return the requirements that Slicer's own Python does not meet; starts no process and imports none of them."""
    check = _packaging().pip_check
    return tuple(one for one in wanted if not check(one))


def ensure_packages(wanted: Sequence[str] = REQUIREMENTS) -> PackageReport:
    """Install what is missing, after the user agreed, once, to a list of it.

    Parameters
    ----------
    wanted : sequence of str
        Requirements as pip writes them.

    Returns
    -------
    PackageReport
        Ready, or what failed, why and what to do next.
    """
    missing = missing_packages(wanted)
    problem = torch_problem(wanted, missing)
    if problem or not missing:
        return PackageReport(not problem, problem, missing)
    if in_testing():
        return PackageReport(False, f"{', '.join(missing)} is missing; nothing is installed while tests run", missing)
    if not ask(missing):
        declined = RuntimeError("User declined package installation")
        return PackageReport(False, explain_failure("installing " + ", ".join(missing), declined), missing)
    others = [one for one in missing if one != TORCH]
    steps = [("installing torch through the PyTorch extension", _install_torch)] if TORCH in missing else []
    if others:
        steps.append(("installing " + ", ".join(others), lambda: _install(others)))
    for step, install in steps:
        report = _take(step, install, missing)
        if report is not None:
            return report
    importlib.invalidate_caches()
    still = (*missing_packages(wanted), *_unmet(others))
    if still:
        return PackageReport(
            False,
            f"{', '.join(still)} {'is' if len(still) == 1 else 'are'} still missing after the installation; restart Slicer and "
            "press Apply again, or press Check environment for a report",
            still,
        )
    return PackageReport(True)


def _take(step: str, install: Callable[[], None], missing: tuple[str, ...]) -> PackageReport | None:
    """Do a step; return what to say when it failed."""
    with pip_words() as said:
        try:
            install()
        except Exception as error:
            failure = error
        else:
            return None
    return PackageReport(False, explain_failure(step, failure, said), missing, tuple(said))


def torch_problem(wanted: Sequence[str], missing: Sequence[str]) -> str:
    """Return why torch must not, or cannot, be installed here; empty when there is nothing to say."""
    there = installed_version("torch")
    intel_mac = sys.platform == "darwin" and platform.machine() == "x86_64"
    repair = "open the module PyTorch Utils, press Uninstall PyTorch, restart Slicer and press Apply again"
    if TORCH in wanted and there and importlib.util.find_spec("torch") is None:
        problem = f"torch {there} is half installed: its files are gone; {repair}"
    elif TORCH not in missing:
        problem = ""
    elif intel_mac:
        problem = (
            f"torch for this Mac's Slicer ends at 2.2, and Agg2Exp needs {TORCH}; choose another Python that has it, under the "
            "setting Agg2Exp/PythonExecutable"
        )
    elif there:
        problem = (
            f"torch {there} is installed, and Agg2Exp needs {TORCH}; others may rely on yours. To replace it, {repair}"
        )
    elif importlib.util.find_spec("PyTorchUtils") is None:
        problem = (
            "torch is missing, and so is the PyTorch extension that installs the right one; install PyTorch in the Extensions "
            "Manager, restart Slicer and press Apply again"
        )
    else:
        problem = ""
    return problem


def ask(missing: Sequence[str]) -> bool:
    """Ask once for everything, naming each package."""
    import slicer.util

    return bool(slicer.util.confirmOkCancelDisplay(question(missing), f"{REQUESTER} - Install Python packages"))


def question(missing: Sequence[str]) -> str:
    """Return what the user is asked."""
    lines = []
    for one in missing:
        there = installed_version(_name(one))
        extra = "through the PyTorch extension" if one == TORCH else f"in place of {there}" if there else ""
        lines.append(f"  • {one}" + (f"  ({extra})" if extra else ""))
    return "\n".join(
        [
            "Agg2Exp needs Python packages that this Slicer lacks:",
            "",
            *lines,
            "",
            "They, and packages that they need, are downloaded and installed into Slicer's Python. "
            "What Slicer and other extensions have installed stays as it is. "
            + ("torch is large: this may take some minutes. " if TORCH in missing else "")
            + "Continue?",
        ]
    )


def _install(requirements: Sequence[str]) -> None:
    packaging = _packaging()
    if hasattr(packaging, "pip_ensure"):
        with _constraints(requirements) as file:
            packaging.pip_ensure(
                list(requirements),
                constraints=file,
                requester=REQUESTER,
                skip_packages=list(KEPT),
                prompt_install=False,
            )
        return
    # Slicer 5.10 has no packaging module: keep its versions by naming them.
    packaging.pip_install([*requirements, *(f"{name}=={v}" for name in KEPT if (v := installed_version(name)))])


@contextlib.contextmanager
def _constraints(requirements: Sequence[str]) -> Iterator[Path]:
    """Hold every package at the version that is there, apart from those asked for: nothing else is replaced."""
    asked = {_canonical(_name(one)) for one in requirements}
    lines = set()
    for one in importlib.metadata.distributions():
        name, version = one.metadata["Name"], one.metadata["Version"]
        # A damaged installation may have neither.
        if name and version and _canonical(name) not in asked and re.fullmatch(r"\d[\w.!+-]*", version):
            lines.add(f"{name}=={version}")
    with tempfile.TemporaryDirectory(prefix="Agg2Exp-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "constraints.txt"
        file.write_text("\n".join(sorted(lines)) + "\n", encoding="utf-8")
        yield file


def _install_torch() -> None:
    """Install torch through the PyTorch extension, which imports it at the end to say its version."""
    import PyTorchUtils

    requirement = TORCH.removeprefix("torch")
    found = PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=requirement)
    if found is None:
        raise RuntimeError("the PyTorch extension did not install torch")


def _unmet(requirements: Sequence[str]) -> tuple[str, ...]:
    """Return what installed packages need and lack: Slicer goes on when one of those fails, with a line in its log."""
    kept = {_canonical(name) for name in KEPT}
    found = []
    for one in requirements:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            for needed in importlib.metadata.requires(_name(one)) or []:
                plain, _, marker = needed.partition(";")
                if "extra" not in marker and _canonical(_name(plain)) not in kept:
                    found.append(needed)
    return missing_packages(found)


def in_testing() -> bool:
    """Whether Slicer runs its tests: they never change its Python."""
    import slicer

    return bool(slicer.app.testingEnabled())


def installed_version(name: str) -> str | None:
    """Return the version of an installed distribution, ``None`` without one."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return found[0] if found else requirement


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _packaging() -> Any:
    """Slicer 5.12 has ``slicer.packaging``; before it there were two functions in ``slicer.util``."""
    with contextlib.suppress(ImportError):
        import slicer.packaging

        return slicer.packaging
    import slicer.util

    return _Older(slicer.util)


class _Older:
    """Slicer 5.10's way, under the names used here."""

    def __init__(self, util: Any) -> None:
        self.pip_install = util.pip_install

    @staticmethod
    def pip_check(requirement: str) -> bool:
        """Whether a requirement is met, as pip's own vendored parser reads it."""
        from pip._vendor.packaging.requirements import Requirement

        wanted = Requirement(requirement)
        if wanted.marker is not None and not wanted.marker.evaluate():
            return True
        found = installed_version(wanted.name)
        return found is not None and found in wanted.specifier
