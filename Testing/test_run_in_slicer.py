"""The runner for a desktop Slicer, tried in a process whose Slicer is the bench: its exit code tells what the tests did."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUNNER = ROOT / "Testing" / "run_in_slicer.py"
# A Slicer that has started: its application, its modules, this module's folder on its path.
SLICER = """
import runpy, sys
from types import SimpleNamespace
from Testing import bench
bench.offer()
from Testing.bench import slicer_double
slicer_double.install({folder!r})
import slicer
slicer.modules = SimpleNamespace({modules})
slicer.app.mark = "started"
slicer.app.userSettings().setValue("Agg2Exp/ResultsFolder", "/kept")
sys.path.insert(0, {module_folder!r})
sys.argv = {arguments!r}
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("SETTING", slicer.app.userSettings().value("Agg2Exp/ResultsFolder"), getattr(slicer.app, "mark", "replaced"))
"""


def run(folder, *tests, modules="agg2exp=SimpleNamespace(path='')"):
    program = SLICER.format(
        folder=str(folder), modules=modules, module_folder=str(ROOT / "Agg2Exp"), arguments=[str(RUNNER), *tests]
    )
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=folder,
                          env=surroundings)  # fmt: skip


@pytest.fixture
def tests_of(tmp_path):
    """Write tests that use the fixtures of the panel's tests."""

    def write(text):
        file = tmp_path / "test_given.py"
        file.write_text(f"pytest_plugins = ['Testing.bench.fixtures']\n{text}", encoding="utf-8")
        return str(file)

    return write


def test_the_panels_tests_pass_in_the_slicer_that_is_there_and_its_settings_are_kept(tmp_path):
    chosen = [
        f"{ROOT / 'Testing' / 'test_panel.py'}::{name}"
        for name in (
            "test_loading_a_ct_and_pressing_apply_is_enough",
            "test_after_a_reload_the_new_panel_shows_what_the_old_one_did",
            "test_missing_packages_stop_apply_with_a_sentence",
        )
    ]
    done = run(tmp_path, *chosen)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "3 passed" in done.stdout
    # The application that was there has been used, and what its user had set is set again.
    assert "SETTING /kept started" in done.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def test_no(panel):\n    assert panel is None", "1 failed"),
        ("def test_no(panel):\n    raise SystemExit(0)", "1 failed"),
        ("", "no tests ran"),
    ],
)
def test_a_failing_test_an_exit_and_no_test_at_all_give_another_exit_code_than_0(tests_of, tmp_path, text, words):
    done = run(tmp_path, tests_of(text))
    assert words in done.stdout, done.stdout + done.stderr
    assert done.returncode not in (0, 4)


def test_a_slicer_without_the_module_is_told_how_to_be_started(tmp_path):
    done = run(tmp_path, modules="")
    assert done.returncode == 3
    assert "--additional-module-paths Agg2Exp" in done.stderr
