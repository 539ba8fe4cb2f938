"""The benchmark's parts, and a dry run of the check for a GPU on the processor."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from Agg2ExpLib import benchmark  # noqa: E402


def _gpu_check():
    file = Path(__file__).parent / "benchmarks" / "gpu_check.py"
    spec = importlib.util.spec_from_file_location("gpu_check", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_dry_run_of_the_gpu_check_says_that_all_is_well(capsys):
    # On the processor bfloat16 is slow and as rough as on a card.
    assert _gpu_check().main(["--small", "--device", "cpu", "--classes", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[:1].isalpha()][3:6] == ["float32", "tf32", "bfloat16"]
    assert lines[-1].startswith("all well")


@pytest.mark.parametrize("way", ["plain", "captum"])
@pytest.mark.parametrize("name", ["gradient", "integrated-gradients"])
def test_the_ways_that_ours_is_compared_with_compute_the_same(way, name):
    if way == "captum":
        pytest.importorskip("captum")
    check = _gpu_check()
    case = benchmark_case(check)
    aims = [aim for aim in case.objectives() if aim.voxels][:1]
    method = benchmark._method(name, way)
    (ours,) = case.attribute(method, objectives=aims)
    maps, passes = (benchmark._captum if way == "captum" else benchmark._plain)(case, method, aims)
    expected = ours.full(case.prepared.shape)
    assert abs(maps[ours.class_index] - expected).max() < 1e-4 * abs(expected).max()
    assert passes == 2 * case.n_windows * (1 if name == "gradient" else benchmark.POINTS)


def benchmark_case(check):
    from Agg2ExpLib.case import Case

    return Case.open(check._scan(24), check._model(small=True), device="cpu")
