"""Two runs at one place: the second is refused or waits, and never removes the first one's work."""

from dataclasses import replace

import numpy as np
import pytest
from cohort_samples import fake_explain, fake_job, made_up_cases
from test_windows_files import model, scan  # noqa: F401  (fixtures)

from Agg2ExpLib.cohort.run.runner import run_cohort
from Agg2ExpLib.comparison import Plan, compare_methods
from Agg2ExpLib.errors import OutputError
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.storage import FolderLock


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_of_a_cohort_is_refused_and_the_first_one_finishes(tmp_path):
    pytest.importorskip("pyarrow")
    out, seen = tmp_path / "out", []

    def explain(image, model_, folder, settings, **options):
        found = fake_explain(image, model_, folder, settings)
        before = files_of(out)
        with pytest.raises(OutputError, match=r"another run is at work on .*out; wait for it, or give another --out"):
            run_cohort(made_up_cases(3), fake_job(out), workers=1)
        assert files_of(out) == before
        seen.append(image)
        return found

    summary = run_cohort(made_up_cases(3), replace(fake_job(out), explain=explain), workers=1)
    assert (summary.finished, summary.failed, len(seen)) == (3, 0, 3)
    assert not (out / ".lock").exists()
    assert run_cohort(made_up_cases(3), fake_job(out), workers=1).before == 3


def test_a_second_run_of_a_cohort_waits_when_asked(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("Agg2ExpLib.storage.locks._PAUSE_S", 0.0)
    out, stages = tmp_path / "out", []
    first = FolderLock(out, inside=True)
    first.__enter__()

    def finish(event):
        if event.stage.startswith("waiting") and not stages:
            first.__exit__()
        stages.append(event.stage)

    assert run_cohort(made_up_cases(2), fake_job(out), workers=1, wait=True, progress=Progress(finish)).finished == 2
    assert stages[0] == "waiting for another run"


def test_a_second_comparison_is_refused_though_it_was_to_overwrite(scan, model, tmp_path):  # noqa: F811
    out, plan = tmp_path / "out", Plan(methods=("gradient",), subsets=10, subset_voxels=20, copies=1, device="cpu")
    inner = []

    def start_another(event):
        if (out / "cases").exists() and not inner:
            before = files_of(out)
            with pytest.raises(OutputError, match="another run is at work") as refusal:
                compare_methods({"one": scan}, model, out, replace(plan, seed=1), overwrite=True)
            assert files_of(out) == before
            inner.append(refusal)

    found = compare_methods({"one": scan}, model, out, plan, progress=Progress(start_another))
    assert inner
    assert np.isfinite([row.value for row in found.table.rows if row.measure == "complexity"]).all()
    assert (out / "comparison.json").is_file()
    assert not (out / ".lock").exists()
