"""Packages of the computing Python: checked when Apply is first pressed, installed only when the user agrees."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: What Slicer brings and must keep: pip must never put another one in its place.
KEPT = ("numpy", "scipy", "SimpleITK", "torch")
#: What an explanation needs beside those; torch comes through the PyTorch extension.
TORCH = "torch>=2.4.1,<3"
REQUIREMENTS = (TORCH, "monai>=1.5,<2", "safetensors>=0.4.3", "einops>=0.8", "tqdm>=4.66")
#: What drawing needs, and comparing with a reference; neither runs a network.
FOR_FIGURES = ("matplotlib>=3.10,<4",)
FOR_SCORES = ("scikit-learn>=1.5",)
#: What many cases need: their tables, and more than one process at a time.
FOR_COHORTS = ("pyarrow>=16", *FOR_SCORES, *FOR_FIGURES)
FOR_WORKERS = ("distributed>=2024.9",)
REQUESTER = "Agg2Exp"


@dataclass(frozen=True)
class PackageReport:
    """Whether an explanation can be computed here; ``sentence`` says why not and what to do."""

    ready: bool
    sentence: str = ""
    missing: tuple[str, ...] = ()


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
    """Install what is missing, after the user agreed in Slicer's own dialogue that lists it.

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
    if not missing:
        return PackageReport(True)
    if TORCH in missing:
        failed = _install_torch()
        if failed:
            return PackageReport(False, failed, missing)
    others = [one for one in missing if one != TORCH]
    if others:
        try:
            _install(others)
        except Exception as error:
            return PackageReport(False, explain_failure("installing " + ", ".join(others), error), missing)
    still = missing_packages(wanted)
    if still:
        return PackageReport(
            False,
            f"{', '.join(still)} {'is' if len(still) == 1 else 'are'} still missing after the installation; restart Slicer and "
            "press Apply again, or press Check environment for a report",
            still,
        )
    return PackageReport(True)


def _install(requirements: Sequence[str]) -> None:
    packaging = _packaging()
    if hasattr(packaging, "pip_ensure"):
        packaging.pip_ensure(list(requirements), requester=REQUESTER, skip_packages=list(KEPT))
        return
    # Slicer 5.10 has no packaging module: keep its versions by naming them.
    packaging.pip_install([*requirements, *(f"{name}=={v}" for name in KEPT if (v := _version(name)))])


def _install_torch() -> str:
    """Install torch through the PyTorch extension; return why not."""
    try:
        import PyTorchUtils
    except ImportError:
        return (
            "torch is missing, and so is the PyTorch extension that installs the right one; install PyTorch in the Extensions "
            "Manager, restart Slicer and press Apply again"
        )
    try:
        if (
            PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=TORCH[5:])
            is None
        ):
            return "torch was not installed; press Apply again when you agree, or choose another Python in the settings"
    except Exception as error:
        return explain_failure("installing torch through the PyTorch extension", error)
    return ""


#: Words of a failure -> likely cause and next step.
_CAUSES = (
    (r"declined|abort", "you chose not to install; press Apply again when you agree"),
    (r"No space left|Errno 28|disk full", "the disk is full; free some gigabytes and try again"),
    (
        r"CERTIFICATE|SSL",
        "a proxy or firewall exchanges certificates; ask your IT for its certificate and set SSL_CERT_FILE",
    ),
    (
        r"Proxy|407|Name or service|getaddrinfo|timed out|Connection|Network is unreachable|Max retries",
        "the package server cannot be reached; check the network, set HTTPS_PROXY where a proxy is needed, or install from files",
    ),
    (
        r"filename.*too long|WinError 206|path.*too long",
        "the path is too long for Windows; install Slicer in a shorter folder",
    ),
    (
        r"Permission denied|Access is denied|WinError 5",
        "Slicer's folder cannot be written; install Slicer in your own folder",
    ),
    (
        r"No matching distribution|no version|ResolutionImpossible|conflict",
        "no version fits this Slicer; update Slicer",
    ),
    (r"being used by another|in progress", "another installation is running; wait for it and try again"),
)


def explain_failure(step: str, error: BaseException) -> str:
    """Return one sentence: which step, its last words, the likely cause and what to do next.

    Examples
    --------
    >>> explain_failure("installing monai", RuntimeError("User declined package installation"))
    'installing monai did not succeed: you chose not to install; press Apply again when you agree'
    """
    words = _words(error)
    for pattern, cause in _CAUSES:
        if re.search(pattern, words, re.IGNORECASE):
            declined = "declined" in words.lower()
            return f"{step} did not succeed: {cause}" + ("" if declined else f" (it said: {_tail(words)})")
    return f"{step} did not succeed (it said: {_tail(words)}); restart Slicer and try again, or press Check environment"


def _words(error: BaseException) -> str:
    parts = [str(error), *(str(getattr(error, name, "") or "") for name in ("stderr", "output"))]
    return "\n".join(part for part in parts if part) or type(error).__name__


def _tail(words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return (lines[-1] if lines else "nothing")[:200]


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
        found = _version(wanted.name)
        return found is not None and found in wanted.specifier


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
