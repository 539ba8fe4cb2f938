"""Explanations, what-ifs, cohorts, scenes, models and trainings under the file rules of Windows."""

import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from small_explanations import bright_attribution, write_explanation
from small_networks import write_case
from windows_double import windows  # noqa: F401  (a fixture)

from Agg2ExpLib.comparison import Plan, compare_methods
from Agg2ExpLib.errors import Cancelled, OutputError
from Agg2ExpLib.explanation import Explanation, explain
from Agg2ExpLib.models import load_model
from Agg2ExpLib.models.bundle import save_model
from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.models.model import SegmentationModel
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.request import request_of
from Agg2ExpLib.storage import FolderLock, write_file, write_folder
from Agg2ExpLib.volume import Grid, Volume, write_volume
from Agg2ExpLib.whatif import whatif

torch.set_num_threads(1)
QUICK = request_of(method="gradient", device="cpu")
#: Reserved, in other scripts, and with signs that no file name may have.
LABELS = ("background", "aux", "сердце", "心脏")


class GreyLevels(torch.nn.Module):
    """Classes by grey level alone."""

    def forward(self, x):
        return torch.cat([0.4 - x, 0.2 - (x - 0.5).abs() * 2, 2 * (x - 0.75), 0.5 - 9 * x], dim=1)


@pytest.fixture
def model():
    card = ModelCard(name="levels", labels=LABELS, window=(16, 16, 16), spacing=(2.0, 2.0, 2.0))
    return SegmentationModel(card, GreyLevels().eval(), "0" * 64, Path("levels.safetensors"))


@pytest.fixture
def scan(tmp_path):
    hu = np.full((18, 16, 16), -1000.0)
    hu[4:14, 4:12, 4:12] = 0
    hu[8:12, 6:10, 6:10] = 1000
    return write_volume(
        Volume(hu.astype(np.int16), Grid(hu.shape, np.diag([2.0, 2.0, 2.0, 1.0]))), tmp_path / "ct.nii.gz"
    )


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("windows")
def test_an_explanation_with_names_in_any_script_is_written_and_replaced(scan, model, tmp_path):
    mask = Volume(np.ones((18, 16, 16), np.uint8), Grid((18, 16, 16), np.diag([2.0, 2.0, 2.0, 1.0])))
    out = tmp_path / "out"
    explain(scan, model, out, QUICK, regions={"лёгкое / 1": mask, "con": mask})
    found = explain(scan, model, out, QUICK, regions={"лёгкое / 1": mask, "con": mask}, overwrite=True)
    assert set(found.explained) == set(LABELS[1:])
    assert names_in(out / "attributions") == ["aux_.nii.gz", "сердце.nii.gz", "心脏.nii.gz"]
    assert names_in(out / "regions") == ["con_.nii.gz", "лёгкое_1.nii.gz"]
    assert all(found.attribution(name).shape == (18, 16, 16) for name in found.explained)
    assert found.region("con").voxels.all()
    assert names_in(tmp_path) == ["ct.nii.gz", "out"]


@pytest.mark.usefixtures("windows")
def test_a_stopped_explanation_goes_on(scan, model, tmp_path):
    def kept():
        return any(tmp_path.glob(".out.partial/attributions/*.json"))

    one_at_a_time = request_of(method="gradient", device="cpu", memory_budget=1)
    with pytest.raises(Cancelled):
        explain(scan, model, tmp_path / "out", one_at_a_time, resume=True, progress=Progress(cancelled=kept))
    assert ".out.partial" in names_in(tmp_path)
    assert ".out.lock" not in names_in(tmp_path)
    assert explain(scan, model, tmp_path / "out", one_at_a_time, resume=True).explained
    assert names_in(tmp_path) == ["ct.nii.gz", "out"]


@pytest.mark.usefixtures("windows")
def test_the_notes_of_a_game_are_closed_and_gone_from_the_explanation(scan, model, tmp_path):
    settings = request_of(method="kernelshap", samples=12, device="cpu")
    explain(scan, model, tmp_path / "out", settings, resume=True)
    assert names_in(tmp_path / "out" / "attributions") == [
        name for label in ("aux_", "сердце", "心脏") for name in (f"{label}.nii.gz", f"{label}_supervoxels.csv")
    ]


def test_an_explanation_that_a_viewer_has_open_is_kept(windows, scan, model, tmp_path):  # noqa: F811
    explain(scan, model, tmp_path / "out", QUICK)
    before = names_in(tmp_path / "out" / "attributions")
    with (
        (tmp_path / "out" / "prediction.nii.gz").open("rb"),
        pytest.raises(OutputError, match="another program has it open"),
    ):
        explain(scan, model, tmp_path / "out", QUICK, overwrite=True)
    assert windows.refused
    assert names_in(tmp_path / "out" / "attributions") == before
    assert names_in(tmp_path) == ["ct.nii.gz", "out"]
    explain(scan, model, tmp_path / "out", QUICK, overwrite=True)


def test_a_path_that_would_be_too_long_is_refused_before_the_work(windows, scan, model, tmp_path):  # noqa: F811
    stages = []
    room = 235 - len(str(tmp_path)) - len("/.") - len(".partial")
    with pytest.raises(OutputError, match=r"a path of \d+ characters is too long .*choose another --out"):
        explain(
            scan, model, tmp_path / ("x" * room), QUICK, progress=Progress(lambda event: stages.append(event.stage))
        )
    assert windows.refused
    assert "segmentation" not in stages
    assert names_in(tmp_path) == ["ct.nii.gz"]


@pytest.mark.usefixtures("windows")
def test_a_what_if_is_written(scan, model, tmp_path):
    found = explain(scan, model, tmp_path / "explanation", QUICK)
    whatif(found, "сердце", tmp_path / "without", model=model, device="cpu")
    assert names_in(tmp_path / "without") == ["prediction.nii.gz", "whatif.csv", "whatif.json"]
    assert names_in(tmp_path) == ["ct.nii.gz", "explanation", "without"]


@pytest.mark.usefixtures("windows")
def test_a_cohort_and_its_tables_are_written_twice(scan, model, tmp_path):
    pytest.importorskip("pyarrow")
    from Agg2ExpLib.cohort.run.cases import CohortCase
    from Agg2ExpLib.cohort.run.runner import run_cohort
    from Agg2ExpLib.cohort.run.work import Job

    cases = [CohortCase(name, scan) for name in ("nul", "Case", "case", "больной 1")]
    job = Job(tmp_path / "cohort", lambda: model, QUICK, keep=True)
    for _ in range(2):
        summary = run_cohort(cases, job, workers=1)
        assert (summary.finished, summary.failed, summary.reasons) == (4, 0, ())
    assert len({name.casefold() for name in names_in(tmp_path / "cohort" / "parts")}) == 4
    assert [name for name in names_in(tmp_path / "cohort") if name.startswith(".")] == []


@pytest.mark.usefixtures("windows")
def test_a_comparison_is_written_and_replaced(scan, model, tmp_path):
    for samples in (10, 12):
        plan = Plan(
            methods=("gradient",), classes=("сердце",), subsets=samples, subset_voxels=20, copies=1, device="cpu"
        )
        found = compare_methods({"one": scan}, model, tmp_path / "out", plan, overwrite=True)
        assert found.table.rows
    assert [name for name in names_in(tmp_path / "out") if name.startswith(".")] == []


@pytest.mark.usefixtures("windows")
def test_a_model_folder_is_written_and_replaced(tmp_path):
    _, folder = write_case(tmp_path)
    save_model(load_model(folder), folder, readme="again")
    assert (folder / "docs" / "README.md").read_text(encoding="utf-8") == "again"
    assert load_model(folder).card.labels == ("background", "one", "two")
    assert names_in(tmp_path) == ["ct.nii.gz", "small"]


@pytest.mark.usefixtures("windows")
def test_a_training_saves_and_goes_on(tmp_path):
    pytest.importorskip("monai")
    from test_training import SMALL, After

    from Agg2ExpLib.phantom import write_phantoms
    from Agg2ExpLib.training import TrainingSettings, train

    write_phantoms(tmp_path / "train", 1, 1, 6.0)
    write_phantoms(tmp_path / "held", 1, 2, 6.0)
    settings = TrainingSettings(**SMALL)
    for stop in (2, None):
        try:
            train(tmp_path / "train", tmp_path / "held", tmp_path / "run", tmp_path / "model", settings, device="cpu",
                  progress=Progress(After(stop, KeyboardInterrupt)) if stop else Progress())  # fmt: skip
        except KeyboardInterrupt:
            assert (tmp_path / "run" / "checkpoint.pt").is_file()
    assert (tmp_path / "model" / "configs" / "metadata.json").is_file()
    assert [path for path in tmp_path.rglob(".*")] == []


@pytest.mark.usefixtures("windows")
def test_a_scene_is_saved_over_an_older_one(tmp_path):
    pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'agg2exp[scene]'")
    from Agg2ExpLib.scene.export import write_scene

    values = {"heart": bright_attribution()}
    found = write_explanation(tmp_path / "explanation", attributions=values)
    for _ in range(2):
        write_scene(Explanation.load(found.folder), tmp_path / "сцена.mrb", name="heart", overwrite=True)
    assert (tmp_path / "сцена.mrb").stat().st_size > 1000
    assert [name for name in names_in(tmp_path) if name.startswith(".")] == []


@pytest.mark.usefixtures("windows")
def test_the_double_refuses_what_windows_refuses(tmp_path):
    (tmp_path / "Heart").write_text("a")
    with (tmp_path / "Heart").open("rb") as stream:
        for refused in (
            lambda: os.unlink(tmp_path / "Heart"),
            lambda: os.replace(tmp_path / "Heart", tmp_path / "b"),
            lambda: os.rename(tmp_path, tmp_path.with_name("moved")),
            lambda: os.fsync(stream.fileno()),
            lambda: (tmp_path / "heart").write_text("b"),
            lambda: (tmp_path / "nul.txt").write_text("b"),
            (tmp_path / "dot.").mkdir,
            lambda: (tmp_path / ("x" * 250)).write_text("b"),
            lambda: os.open(tmp_path, os.O_RDONLY),
        ):
            with pytest.raises(OSError):
                refused()
    mapped = np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", shape=(4,))
    with pytest.raises(PermissionError):
        os.unlink(tmp_path / "a.npy")
    del mapped
    os.unlink(tmp_path / "a.npy")


@pytest.mark.usefixtures("windows")
def test_a_file_that_is_closed_in_time_is_replaced(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("old")
    stream = (tmp_path / "a").open("rb")
    waits = []

    def close(seconds):
        waits.append(seconds)
        stream.close()

    monkeypatch.setattr("Agg2ExpLib.storage.files.time", SimpleNamespace(sleep=close))
    write_file(tmp_path / "a", "new")
    assert ((tmp_path / "a").read_text(), len(waits)) == ("new", 1)


@pytest.mark.usefixtures("windows")
def test_a_lock_is_removed_without_removing_anothers(tmp_path):
    first = FolderLock(tmp_path / "out")
    with first, pytest.raises(OutputError, match="another run is at work"), FolderLock(tmp_path / "out"):
        pass
    assert names_in(tmp_path) == []
    with first:
        other = first.file.open("ab")
    # Another is about to take it: the file stays, and serves the next.
    assert names_in(tmp_path) == [".out.lock"]
    other.close()
    with FolderLock(tmp_path / "out"):
        pass
    assert names_in(tmp_path) == []


def test_the_lock_of_windows_itself_is_taken_and_refused(tmp_path, monkeypatch):
    import fcntl

    def locking(handle, mode, count):
        assert (mode, count, os.lseek(handle, 0, os.SEEK_CUR)) == (2, 1, 0)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(13, "Permission denied") from None

    double = ModuleType("msvcrt")
    double.LK_NBLCK, double.locking = 2, locking
    monkeypatch.setitem(sys.modules, "msvcrt", double)
    monkeypatch.setattr("Agg2ExpLib.storage.locks.sys", SimpleNamespace(platform="win32"))
    with write_folder(tmp_path / "out") as folder:
        (folder / "a.json").write_text(json.dumps({}))
        with pytest.raises(OutputError, match="another run is at work"), write_folder(tmp_path / "out"):
            pass
    assert names_in(tmp_path / "out") == ["a.json"]
