"""Packages in Slicer: asked for once and by name, torch through its extension, nothing replaced, failures in words."""

import importlib.metadata
import subprocess
import sys
import types

import pytest

from Agg2ExpLib.panel.compute import packages
from Agg2ExpLib.panel.compute.pip_failures import explain_failure, pip_words
from Testing.bench.fixtures import add_ct, read, turn


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("SSLError CERTIFICATE_VERIFY_FAILED", "certificate"),
        ("ProxyError 407", "HTTPS_PROXY"),
        ("ERROR: No matching distribution found for monai", "update Slicer"),
        ("PermissionError: [WinError 5] Access is denied", "your own folder"),
        ("something nobody thought of", "Check environment"),
    ],
)
def test_a_failed_installation_says_step_cause_and_next_action(words, cause):
    told = explain_failure("installing monai", RuntimeError(f"first line\n{words}"))
    assert told.startswith("installing monai did not succeed")
    assert cause in told
    assert words in told


def test_what_pip_itself_said_is_told_although_slicers_error_holds_none_of_it():
    # As Slicer raises it: open streams where the texts should be.
    error = subprocess.CalledProcessError(1, ["PythonSlicer", "-m", "pip"], output=sys.stdout, stderr=None)
    with pip_words() as said:
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--retries=0", "--index-url=http://127.0.0.1:9/",
                   "no-such-package-at-all"]  # fmt: skip
        assert subprocess.run(command, capture_output=True, check=False).returncode
    assert any("No matching distribution" in line for line in said)
    assert len(said) <= 20
    told = explain_failure("installing no-such-package-at-all", error, said)
    assert "the package server cannot be reached" in told
    assert "ERROR: No matching distribution found for no-such-package-at-all" in told
    assert "TextIOWrapper" not in told


def test_listening_to_pip_leaves_the_surroundings_as_they_were(monkeypatch):
    import os

    monkeypatch.setenv("PIP_LOG", "/mine")
    with pytest.raises(KeyError), pip_words():
        assert os.environ["PIP_LOG"] != "/mine"
        raise KeyError
    assert os.environ["PIP_LOG"] == "/mine"
    monkeypatch.delenv("PIP_LOG")
    with pip_words() as said:
        pass
    assert "PIP_LOG" not in os.environ
    assert said == []


@pytest.mark.parametrize(("version", "fits"), [((5, 8), False), ((5, 10), True), ((5, 12), True), ((6, 0), True)])
def test_a_slicer_that_is_too_old_is_told_so(version, fits):
    class Application:
        majorVersion, minorVersion = version

    told = packages.version_problem(Application)
    assert (told == "") == fits
    assert fits or "5.8" in told


def test_what_is_missing_is_asked_for_once_by_name_and_slicers_own_are_kept(bench_scene, pip):
    pip.hidden = {"monai", "einops"}
    assert packages.missing_packages() == ("monai>=1.5,<2", "einops>=0.8")
    assert packages.ensure_packages().ready
    assert len(pip.asked) == 1
    assert all(f"• {name}" in pip.asked[0] for name in ("monai>=1.5,<2", "einops>=0.8"))
    asked, told = pip.installed_requests[0]
    assert asked == ["monai>=1.5,<2", "einops>=0.8"]
    assert told["prompt_install"] is False
    assert set(told["skip_packages"]) == {"numpy", "scipy", "SimpleITK", "torch"}


def test_every_package_that_is_there_is_held_at_its_version_but_those_asked_for(bench_scene, pip):
    pip.hidden = {"monai"}
    packages.ensure_packages()
    held = {line.partition("==")[0]: line.partition("==")[2] for line in pip.constraints}
    assert held["numpy"] == importlib.metadata.version("numpy")
    assert held["matplotlib"] == importlib.metadata.version("matplotlib")
    assert "monai" not in held


def test_nothing_is_asked_or_installed_when_all_is_there(bench_scene, pip):
    assert packages.ensure_packages().ready
    assert (pip.asked, pip.installed_requests) == ([], [])


def test_a_declined_installation_leaves_a_clear_sentence_and_the_python_as_it_was(bench_scene, pip):
    pip.hidden, pip.answer = {"monai"}, False
    report = packages.ensure_packages()
    assert not report.ready
    assert report.sentence == (
        "installing monai>=1.5,<2 did not succeed: you chose not to install; press Apply again when you agree"
    )
    assert pip.installed_requests == []


def test_a_package_of_another_version_is_named_with_the_version_that_it_replaces(pip):
    there = importlib.metadata.version("monai")
    assert f"• monai>=99  (in place of {there})" in packages.question(["monai>=99"])


def test_while_slicer_runs_tests_nothing_is_installed(bench_scene, pip, monkeypatch):
    monkeypatch.setattr(packages, "in_testing", lambda: True)
    pip.hidden = {"monai"}
    report = packages.ensure_packages()
    assert not report.ready
    assert "while tests run" in report.sentence
    assert (pip.asked, pip.installed_requests) == ([], [])


def test_what_an_installed_package_needs_and_lacks_is_told(bench_scene, pip, monkeypatch):
    pip.hidden = {"scikit-learn", "joblib"}
    report = packages.ensure_packages(packages.FOR_SCORES)
    assert not report.ready
    assert "joblib" in report.sentence
    assert "still missing after the installation" in report.sentence
    assert not any("numpy" in one for one in report.missing)


def test_pips_last_lines_go_into_the_panels_log(panel, settings, pip, monkeypatch):
    settings.setValue("Agg2Exp/PythonExecutable", "")
    pip.hidden = {"monai"}

    def ensure(requirements, **_):
        import os
        from pathlib import Path

        lines = "2026-01-01T00:00:00,000 Collecting monai\n2026-01-01T00:00:00,000 ERROR: [Errno 28] No space left on device\n"
        Path(os.environ["PIP_LOG"]).write_text(lines, encoding="utf-8")
        raise subprocess.CalledProcessError(1, "pip")

    import slicer.packaging

    monkeypatch.setattr(slicer.packaging, "pip_ensure", ensure)
    add_ct()
    panel.explain.apply.click()
    assert "the disk is full" in read(panel.explain.line.label, "text")
    assert "Collecting monai" in panel.log.content()
    assert panel.task is None


def test_the_copied_report_of_the_environment_begins_with_the_slicer_that_it_is_about(panel, monkeypatch):
    import slicer

    if not hasattr(slicer.app, "applicationVersion"):
        monkeypatch.setattr(slicer.app, "applicationVersion", "5.12.3", raising=False)
    panel.explain.environment.click()
    assert turn(lambda: not panel.task.running)
    lines = panel.log.content().splitlines()
    report = [number for number, line in enumerate(lines) if line.startswith(("3D Slicer 5.", "Agg2Exp "))]
    assert lines[report[0]].startswith("3D Slicer 5.")
    assert lines[report[1]].startswith("Agg2Exp ")


# torch


@pytest.fixture
def pytorch(monkeypatch, pip):
    """The PyTorch extension, which installs what it is asked for, or fails."""

    class PyTorchUtilsLogic:
        def installTorch(self, askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None,
                         torchvisionVersionRequirement=None):  # fmt: skip
            pip.torch_requests.append((askConfirmation, torchVersionRequirement))
            if pip.failure:
                raise pip.failure
            pip.hidden.discard("torch")
            return types.ModuleType("torch")

    found = types.ModuleType("PyTorchUtils")
    found.PyTorchUtilsLogic = PyTorchUtilsLogic
    found.__spec__ = importlib.machinery.ModuleSpec("PyTorchUtils", None)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", found)
    return pip


def test_torch_comes_through_the_pytorch_extension_and_both_are_asked_for_in_one_question(bench_scene, pytorch):
    pytorch.hidden = {"torch", "monai"}
    assert packages.ensure_packages().ready
    assert len(pytorch.asked) == 1
    assert "torch>=2.4.1,<3  (through the PyTorch extension)" in pytorch.asked[0]
    assert pytorch.torch_requests == [(False, ">=2.4.1,<3")]
    assert [request[0] for request in pytorch.installed_requests] == [["monai>=1.5,<2"]]


def test_after_torch_failed_nothing_else_is_installed(bench_scene, pytorch):
    pytorch.hidden, pytorch.failure = {"torch", "monai"}, RuntimeError("Max retries exceeded")
    report = packages.ensure_packages()
    assert report.sentence.startswith(
        "installing torch through the PyTorch extension did not succeed: the package server"
    )
    assert pytorch.installed_requests == []


def test_missing_torch_points_to_the_pytorch_extension(bench_scene, pip):
    pip.hidden = {"torch"}
    report = packages.ensure_packages()
    assert "PyTorch in the Extensions Manager" in report.sentence
    assert (pip.asked, pip.installed_requests) == ([], [])


def test_a_torch_of_another_version_is_never_replaced_but_the_way_is_told(bench_scene, pytorch, monkeypatch):
    pytorch.hidden = {"torch"}
    monkeypatch.setattr(packages, "installed_version", lambda name: "2.2.2" if name == "torch" else None)
    report = packages.ensure_packages()
    assert "torch 2.2.2 is installed, and Agg2Exp needs torch>=2.4.1,<3" in report.sentence
    assert "Uninstall PyTorch" in report.sentence
    assert pytorch.torch_requests == []


def test_a_half_installed_torch_is_detected_without_importing_it(bench_scene, pip, monkeypatch):
    monkeypatch.setattr(packages, "installed_version", lambda name: "2.9.0")
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    report = packages.ensure_packages()
    assert not report.ready
    assert "torch 2.9.0 is half installed" in report.sentence
    # Figures need no torch: they are not held up by it.
    assert packages.ensure_packages(packages.FOR_FIGURES).ready


def test_on_an_intel_mac_another_python_is_pointed_to(bench_scene, pytorch, monkeypatch):
    monkeypatch.setattr(packages.sys, "platform", "darwin")
    monkeypatch.setattr(packages.platform, "machine", lambda: "x86_64")
    pytorch.hidden = {"torch"}
    assert "Agg2Exp/PythonExecutable" in packages.ensure_packages().sentence


# What another package does with our names


def test_the_requirements_are_those_of_the_library():
    import re
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    library = set(project["dependencies"])
    for one in (*packages.REQUIREMENTS, *packages.FOR_FIGURES, *packages.FOR_SCORES):
        assert one in library, f"{one} is asked for in another version than pyproject.toml has"
    asked = {re.match(r"[\w-]+", one)[0] for one in packages.REQUIREMENTS}
    # shap brings a package called slicer, which would take the place of 3D Slicer's own.
    assert not asked & {"shap", "slicer"}
