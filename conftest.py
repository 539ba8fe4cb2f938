"""What holds for every test: the bench stands in for Slicer's Qt side, examples are looked for where there are any."""

import os
import sys

import pytest
from hypothesis import settings

from Testing import bench

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores, and so do the processes that their tests start. torch and NumPy read this when they are loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

bench.offer()
# How fast the machine is decides nothing.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

pytest_plugins = ["Testing.bench.fixtures"]


#: What a fresh Slicer has not: tests that need it are skipped there, and only there.
OPTIONAL = ("torch", "monai", "sklearn", "pandas", "matplotlib", "pyarrow")


def _skipped_without(outcome):
    error = outcome.excinfo[1] if outcome.excinfo else None
    missing = (getattr(error, "name", None) or "").partition(".")[0]
    if bench.in_slicer and isinstance(error, ImportError) and missing in OPTIONAL:
        outcome.force_exception(pytest.skip.Exception(f"Slicer's Python has no {missing}", _use_item_location=True))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    """Skip a test whose fixtures need what this Slicer has not."""
    _skipped_without((yield))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """Skip a test that needs what this Slicer has not."""
    _skipped_without((yield))


@pytest.fixture(autouse=True)
def torchs_threads():
    """Give the next test the threads of this one: where workers share the cores, two threads each cost many times as much."""
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    if before is not None:
        sys.modules["torch"].set_num_threads(before)


def pytest_ignore_collect(collection_path):
    """Leave out the modules without an example in a docstring: pytest would import them all, in every worker, to find none."""
    if collection_path.suffix != ".py" or collection_path.name.startswith("test_"):
        return None
    return True if b">>> " not in collection_path.read_bytes() else None
