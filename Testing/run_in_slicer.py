"""The tests of the panel, inside a desktop Slicer: its own qt, ctk, qMRML widgets, scene and module in place of the bench.

    Slicer --testing --no-splash --additional-module-paths Agg2Exp --python-script Testing/run_in_slicer.py [OPTIONS] [TESTS]

TESTS are names of files of this folder without ``.py`` (Slicer takes the first file of that kind for its script), such as
``test_panel`` or ``test_panel::test_a_new_panel_says_what_to_do_first``; by default every test of the panel. Tests that need a
package which Slicer's Python lacks (torch, MONAI, scikit-learn in a fresh one) are skipped with its name.

Slicer ends with pytest's exit code: 0 when all passed, something else when not. Slicer has no pytest: it is taken from the folder
that ``--packages`` names (default: build/slicer-test-packages in this checkout) and installed there with pip the first time.
Slicer's own packages stay as they are. Without a network, fill that folder elsewhere:
``PythonSlicer -m pip install --target DIR pytest hypothesis``.
"""

import argparse
import importlib
import importlib.util
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("pytest", "hypothesis")
FILES = ("test_panel*.py", "test_slicer_module.py", "test_sample_data.py")


def main(arguments):
    """Run the tests; return pytest's exit code."""
    parser = argparse.ArgumentParser(prog="run_in_slicer.py", description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, default=ROOT / "build" / "slicer-test-packages", metavar="DIR")
    parser.add_argument("tests", nargs="*")
    given = parser.parse_args(arguments)

    import slicer

    if getattr(slicer, "app", None) is None or getattr(slicer.modules, "agg2exp", None) is None:
        print(
            "Slicer has not loaded the module Agg2Exp; start it with --additional-module-paths Agg2Exp", file=sys.stderr
        )
        return 3
    # In Slicer's own process this names Slicer; the tests start Pythons.
    sys.executable = shutil.which("PythonSlicer") or sys.executable
    get_packages(given.packages)
    sys.path.insert(0, str(ROOT))
    # Bytecode beside the tests would be Slicer's, with pytest's name in it: the next run by another pytest stumbles over it.
    sys.dont_write_bytecode = True

    import pytest

    from Testing import bench

    bench.in_slicer = True
    tests = [named(text) for text in given.tests] or [
        str(file) for pattern in FILES for file in sorted((ROOT / "Testing").glob(pattern))
    ]
    return int(
        pytest.main(["-p", "no:cacheprovider", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), *tests])
    )


def named(text):
    """Return what pytest calls a test that is named without ``.py``."""
    file, colons, test = text.partition("::")
    return f"{ROOT / 'Testing' / file.removesuffix('.py')}.py{colons}{test}"


def get_packages(folder):
    """Make pytest importable, last in line, so that what Slicer has of its own comes first."""
    sys.path.append(str(folder))
    if all(importlib.util.find_spec(name) for name in NEEDED):
        return
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--target", str(folder), *NEEDED]
    print("getting", *NEEDED, "into", folder)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    importlib.invalidate_caches()


def leave(code):
    """End Slicer with this exit code; the bench, where there is no application to end, ends its process."""
    import slicer
    import slicer.util

    sys.stdout.flush()
    if hasattr(slicer.app, "exit"):
        slicer.util.exit(code)
    else:
        sys.exit(code)


if __name__ == "__main__":
    try:
        CODE = main(sys.argv[1:])
    except SystemExit as error:
        # A window would wait for somebody to close it.
        print(error, file=sys.stderr)
        CODE = error.code if isinstance(error.code, int) else 4
    except BaseException:
        traceback.print_exc()
        CODE = 4
    leave(CODE)
