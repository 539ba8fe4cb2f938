"""Import shap without touching 3D Slicer's own package ``slicer``.

shap says ``from slicer import Alias, Obj, Slicer`` and means a small PyPI package that happens to have the name of 3D
Slicer's. Installed beside Slicer it would overwrite or hide Slicer's files. So it never goes where Slicer's packages are:

* shap is installed without its dependencies, ``pip install --no-deps shap``;
* the small ``slicer`` goes into a folder of its own, ``pip install --no-deps --target FOLDER slicer==0.0.8``. FOLDER is
  ``agg2exp_shap_slicer`` beside the installed shap, where :func:`private_folder` looks.

While shap is imported, and only then, the name ``slicer`` in ``sys.modules`` is the small one; afterwards it is again
whatever it was: Slicer's package, or nothing, so that a later ``import slicer`` finds Slicer's. shap keeps what it took.
Because names change hands during that moment, no other thread may import ``slicer`` then; the Slicer panel never imports
shap, its child process does.

``python -m Agg2ExpLib.methods.games.shap_import`` installs both; a word such as ``shap==0.51.0`` chooses the version.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from Agg2ExpLib.errors import Agg2ExpError, InputError

FOLDER_NAME = "agg2exp_shap_slicer"
_NAME = "slicer"
_LITTLE_SLICER = "slicer==0.0.8"
#: What shap imports beside its own code, without the packages that Slicer's Python must not get other versions of.
_SHAP_NEEDS = ("pandas", "scikit-learn", "numba", "cloudpickle", "packaging", "tqdm", "typing-extensions")
#: Packages that must stay as they are: Slicer brings the first three, the PyTorch extension the last.
_KEPT = ("numpy", "scipy", "SimpleITK", "torch")
_LOCK = threading.RLock()


def import_shap() -> Any:
    """Return the package shap; ``slicer`` is afterwards what it was before.

    Raises
    ------
    InputError
        shap, or its small package, is not installed or does not load.
    """
    with _LOCK:
        if "shap" in sys.modules:
            return sys.modules["shap"]
        if importlib.util.find_spec("shap") is None:
            raise InputError(f"estimator 'shap' needs shap; run {_how()}, or use --estimator regression")
        with _little_slicer():
            try:
                return importlib.import_module("shap")
            except ImportError as error:
                for name in [name for name in sys.modules if name.partition(".")[0] == "shap"]:
                    del sys.modules[name]
                raise InputError(
                    f"shap is installed but cannot be imported ({error}); run {_how()}, or use --estimator regression"
                ) from error


def private_folder() -> Path:
    """Return where the small package lies, or is to lie: beside shap, else beside this library's environment's packages."""
    import sysconfig

    found = importlib.util.find_spec("shap")
    if found and found.origin:
        return Path(found.origin).resolve().parents[1] / FOLDER_NAME
    return Path(sysconfig.get_paths()["purelib"]) / FOLDER_NAME


@contextlib.contextmanager
def _little_slicer() -> Iterator[None]:
    """Let the small package have the name for a moment."""
    # With its submodules: a name and what lies under it must stay of one package.
    taken = {name: sys.modules.pop(name) for name in _names()}
    folder = str(private_folder())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
        for name in _names():
            del sys.modules[name]
        sys.modules.update(taken)


def _names() -> list[str]:
    return [name for name in sys.modules if name == _NAME or name.startswith(f"{_NAME}.")]


def _how() -> str:
    return f"{Path(sys.executable).name} -m {__spec__.name if __spec__ else __name__}"


def install(shap: str = "shap>=0.46") -> None:
    """Install shap and its small package so that neither touches 3D Slicer's ``slicer``.

    Parameters
    ----------
    shap : str
        What pip is asked for.

    Raises
    ------
    Agg2ExpError
        pip failed, with its last line.
    """
    from importlib.metadata import PackageNotFoundError, version

    kept = []
    for name in _KEPT:
        with contextlib.suppress(PackageNotFoundError):
            kept.append(f"{name}=={version(name)}")
    _pip("--no-deps", shap)
    _pip(*_SHAP_NEEDS, *kept)
    _pip("--no-deps", "--upgrade", "--target", str(private_folder()), _LITTLE_SLICER)


def _pip(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Agg2ExpError(f"pip could not install {words[-1]}: {last}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Install what is missing, and say whether shap can be imported."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        try:
            shap = import_shap()
        except InputError:
            install(*words[:1])
            shap = import_shap()
    except Agg2ExpError as error:
        print(f"agg2exp: {error}", file=sys.stderr)
        return 2
    print(f"shap {shap.__version__} is ready")
    return 0


if __name__ == "__main__":
    sys.exit(main())
