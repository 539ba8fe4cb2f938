import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from Agg2ExpLib.errors import Cancelled, InputError, OutputError
from Agg2ExpLib.estimate import describe_estimate, estimate
from Agg2ExpLib.explanation import Explanation, explain
from Agg2ExpLib.importance import importance_row
from Agg2ExpLib.methods import METHODS, SmoothGrad
from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.models.model import SegmentationModel
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.request import Request, request_of
from Agg2ExpLib.volume import Grid, Volume, read_volume, reorient, write_volume

torch.set_num_threads(1)
LABELS = ("background", "dark", "bright", "never")


class Thresholds(torch.nn.Module):
    """A network whose classes are grey levels, with a convolution so that context matters."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.mix = torch.nn.Conv3d(1, 1, 3, padding=1)
        for parameter in self.parameters():
            parameter.requires_grad_(False)

    def forward(self, x):
        level = x + 0.05 * torch.tanh(self.mix(x))
        never = -5.0 + 0.0 * level
        return torch.cat([0.4 - level, 0.2 - (level - 0.5).abs() * 2, 2 * (level - 0.75), never], dim=1) * 4


@pytest.fixture
def model():
    card = ModelCard(name="levels", labels=LABELS, window=(16, 16, 16), spacing=(2.0, 2.0, 2.0), overlap=0.25)
    return SegmentationModel(card, Thresholds().eval(), "0" * 64, Path("levels.safetensors"))


@pytest.fixture
def scan(tmp_path):
    rng = np.random.default_rng(0)
    hu = rng.normal(-900, 20, (24, 20, 22))
    hu[6:14, 5:12, 4:15] = rng.normal(0, 20, (8, 7, 11))
    hu[15:20, 8:14, 6:16] = rng.normal(800, 20, (5, 6, 10))
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-20, 10, 5]
    path = tmp_path / "ct.nii.gz"
    write_volume(Volume(hu.astype(np.int16), Grid(hu.shape, affine)), path)
    return path


@pytest.fixture
def quick():
    return request_of(method="smoothgrad", samples=2, device="cpu")


def test_the_folder_holds_what_the_contract_says(scan, model, quick, tmp_path):
    found = explain(scan, model, tmp_path / "out", quick)
    assert found.explained == ("dark", "bright")
    for name in (
        "explanation.json",
        "importance.csv",
        "importance_long.csv",
        "prediction.nii.gz",
        "model_grid/prediction.nii.gz",
        "model_grid/image.nii.gz",
        "attributions/dark.nii.gz",
        "attributions/bright.nii.gz",
    ):
        assert (tmp_path / "out" / name).is_file(), name
    header, *rows = (tmp_path / "out" / "importance.csv").read_text().splitlines()
    assert header == "class,background,dark,bright,never"
    assert [row.split(",")[0] for row in rows] == ["dark", "bright", "never"]
    assert not list(tmp_path.glob(".out*"))


def test_rows_over_the_classes_sum_to_one_and_come_from_the_stored_maps(scan, model, quick, tmp_path):
    found = explain(scan, model, tmp_path / "out", quick)
    labels = found.model_prediction().voxels
    for row, name in enumerate(found.importance.classes[:2]):
        assert found.importance.matrix("mass")[row].sum() == pytest.approx(1.0, abs=1e-9)
        values = found.attribution(name).voxels
        everywhere = (slice(None),) * 3
        again = importance_row(values, everywhere, labels, len(LABELS))
        for measure, matrix in found.importance.values.items():
            np.testing.assert_allclose(matrix[row], again[measure], rtol=1e-5, err_msg=measure)


def test_an_absent_class_is_a_row_of_nan_and_a_message(scan, model, quick, tmp_path):
    found = explain(scan, model, tmp_path / "out", quick)
    row = found.importance.classes.index("never")
    assert np.isnan(found.importance.matrix("mass")[row]).all()
    assert "never is absent from the prediction; its row is empty" in found.document["messages"]
    with pytest.raises(InputError, match="no attribution of 'never'"):
        found.attribution("never")


def test_the_same_scan_stored_in_another_orientation_gives_the_same_importance(scan, model, quick, tmp_path):
    from Agg2ExpLib.volume import read_volume

    first = explain(scan, model, tmp_path / "a", quick)
    turned = reorient(read_volume(scan), "ILP")
    write_volume(Volume(turned.voxels.astype(np.int16), turned.grid), tmp_path / "turned.nii.gz")
    second = explain(tmp_path / "turned.nii.gz", model, tmp_path / "b", quick)
    for measure in ("mass", "positive", "enrichment"):
        np.testing.assert_allclose(
            first.importance.matrix(measure), second.importance.matrix(measure), rtol=1e-3, equal_nan=True
        )
    assert second.prediction().grid.same_as(turned.grid)
    np.testing.assert_array_equal(reorient(second.prediction(), "RAS").voxels, first.prediction().voxels)


def test_extra_regions_are_resampled_from_any_grid_and_may_overlap(scan, model, quick, tmp_path):
    fine = np.zeros((48, 40, 44), dtype=np.uint8)
    fine[12:28, 10:24, 8:30] = 7
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = [-20.5, 9.5, 4.5]
    write_volume(Volume(fine, Grid(fine.shape, affine)), tmp_path / "fine.nii.gz")
    away = Volume(np.ones((4, 4, 4), np.uint8), Grid((4, 4, 4), np.diag([1.0, 1.0, 1.0, 1.0]) + 500 * np.eye(4, k=3)))
    found = explain(
        scan,
        model,
        tmp_path / "out",
        quick,
        regions={"box": tmp_path / "fine.nii.gz", "twin": tmp_path / "fine.nii.gz", "away": away},
    )
    table = found.importance
    assert table.rois[-3:] == ("box", "twin", "away")
    dark = table.matrix("mass")[0]
    np.testing.assert_array_equal(table.matrix("mass")[:, -3], table.matrix("mass")[:, -2])
    assert table.matrix("voxels")[0, -3] == 8 * 7 * 11
    assert dark[-3] > 0.3
    assert dark[-1] == 0
    assert any("away has no voxel" in text for text in found.document["messages"])
    np.testing.assert_array_equal(found.region("box").voxels > 0, found.region("twin").voxels > 0)


@pytest.mark.parametrize("method", ["gradient", "smoothgrad", "integrated-gradients"])
def test_every_method_and_reduction_runs_and_is_repeatable(scan, model, tmp_path, method):
    for reduction in ("sum", "mean", "probability"):
        own = {one.name for one in METHODS[method].options()}
        options = {name: value for name, value in {"samples": 2, "seed": 5}.items() if name in own}
        settings = request_of(method, reduction=reduction, classes=("bright",), device="cpu", **options)
        first = explain(scan, model, tmp_path / f"{reduction}1", settings)
        second = explain(scan, model, tmp_path / f"{reduction}2", settings)
        np.testing.assert_array_equal(first.attribution("bright").voxels, second.attribution("bright").voxels)
        assert first.document["settings"]["reduction"] == reduction


def test_readable_names_serve_and_unknown_ones_name_the_nearest(scan, model):
    assert Request(classes=("Bright ",)).class_indices(LABELS) == [2]
    with pytest.raises(InputError, match="no class 'brigt': did you mean bright"):
        Request(classes=("brigt",)).class_indices(LABELS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "magic"}, "unknown method 'magic'"),
        ({"samples": 0}, "samples of SmoothGrad is 0"),
        ({"sigma": -1.0}, "sigma of SmoothGrad is -1"),
        ({"sigma": float("nan")}, "sigma of SmoothGrad is nan"),
        ({"reduction": "max"}, "unknown reduction"),
        ({"precision": "float8"}, "unknown precision"),
        ({"batch_size": 0}, "batch size is 0"),
        ({"seed": -1}, "seed of SmoothGrad is -1"),
        ({"method": "kernelshap", "supervoxels": "blobs"}, "unknown supervoxels 'blobs'"),
        ({"method": "occlusion", "supervoxel_count": 1}, "supervoxel_count of occlusion is 1"),
        ({"method": "kernelshap", "estimator": "magic"}, "unknown estimator"),
        ({"method": "kernelshap", "scope": "galaxy"}, "unknown scope"),
        ({"method": "kernelshap", "ridge": float("nan")}, "ridge of KernelSHAP is nan"),
        ({"method": "kernelshap", "value": "beauty"}, "unknown value function"),
        ({"value": "dice"}, "SmoothGrad has no option 'value'; its options are samples, seed, sigma"),
    ],
)
def test_settings_refuse_what_they_cannot_do(values, message):
    with pytest.raises(InputError, match=message):
        request_of(**values)


def test_an_existing_folder_is_kept_unless_overwriting_is_asked(scan, model, quick, tmp_path):
    explain(scan, model, tmp_path / "out", quick)
    before = (tmp_path / "out" / "explanation.json").read_text()
    with pytest.raises(OutputError, match="exists already"):
        explain(scan, model, tmp_path / "out", quick)
    assert (tmp_path / "out" / "explanation.json").read_text() == before
    explain(scan, model, tmp_path / "out", request_of(method="gradient", device="cpu"), overwrite=True)
    assert json.loads((tmp_path / "out" / "explanation.json").read_text())["settings"]["method"] == "gradient"
    assert not list(tmp_path.glob(".out*"))


def test_overwriting_never_removes_a_folder_of_something_else(scan, model, quick, tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "precious.nii.gz").write_bytes(b"scan")
    with pytest.raises(OutputError, match="not an Explanation folder"):
        explain(scan, model, tmp_path / "scans", quick, overwrite=True)
    assert (tmp_path / "scans" / "precious.nii.gz").exists()


def test_a_place_that_cannot_be_written_is_told_before_any_work(scan, model, quick, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        explain(scan, model, tmp_path / "file" / "out", quick)


class Stop:
    """Cancels after a number of questions."""

    def __init__(self, after):
        self.left = after

    def __call__(self):
        self.left -= 1
        return self.left < 0


def test_cancelling_leaves_nothing_behind(scan, model, quick, tmp_path):
    with pytest.raises(Cancelled):
        explain(scan, model, tmp_path / "out", quick, progress=Progress(cancelled=Stop(30)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ct.nii.gz"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(scan, model, quick, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("Agg2ExpLib.explanation.sinks.write_file", full)
    with pytest.raises(OutputError, match="the disk is full"):
        explain(scan, model, tmp_path / "out", quick)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ct.nii.gz"]


def test_a_stopped_run_resumes_with_its_finished_classes(scan, model, quick, tmp_path, monkeypatch):
    whole = explain(scan, model, tmp_path / "whole", quick)
    one_at_a_time = request_of(method="smoothgrad", samples=2, device="cpu", memory_budget=1)
    real, asked = SmoothGrad.attribute, []

    def counted(self, stitched, objectives, context):
        asked.append([objective.class_index for objective in objectives])
        for number, one in enumerate(real(self, stitched, objectives, context)):
            if len(asked) == 1 and number == 1:
                raise KeyboardInterrupt
            yield one

    monkeypatch.setattr(SmoothGrad, "attribute", counted)
    with pytest.raises(KeyboardInterrupt):
        explain(scan, model, tmp_path / "out", one_at_a_time, resume=True)
    assert not (tmp_path / "out").exists()
    resumed = explain(scan, model, tmp_path / "out", one_at_a_time, resume=True)
    assert asked == [[1, 2, 3], [2, 3]]
    for name in whole.explained:
        np.testing.assert_array_equal(whole.attribution(name).voxels, resumed.attribution(name).voxels)
    np.testing.assert_array_equal(whole.importance.matrix("mass"), resumed.importance.matrix("mass"))


def test_broken_folders_are_refused_with_a_sentence(scan, model, quick, tmp_path):
    explain(scan, model, tmp_path / "out", quick)
    with pytest.raises(InputError, match="is not a folder"):
        Explanation.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is not an Explanation folder"):
        Explanation.load(tmp_path)
    changes = {
        "newer": ({"format_version": 99}, "format version 99"),
        "foreign": ({"format": "other"}, "does not describe"),
        "escaping": ({"files": ["../ct.nii.gz"]}, "outside of its folder"),
        "shapeless": ({"classes": [3]}, "repeat the explanation"),
    }
    for name, (change, message) in changes.items():
        shutil.copytree(tmp_path / "out", tmp_path / name)
        path = tmp_path / name / "explanation.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(InputError, match=message):
            Explanation.load(tmp_path / name)
    (tmp_path / "out" / "attributions" / "dark.nii.gz").unlink()
    with pytest.raises(InputError, match=r"incomplete: attributions/dark\.nii\.gz is missing"):
        Explanation.load(tmp_path / "out")


def test_region_names_that_collide_with_classes_are_refused(scan, model, quick, tmp_path):
    with pytest.raises(InputError, match="has the name of 'dark'"):
        explain(scan, model, tmp_path / "out", quick, regions={"dark": scan})


def test_the_estimate_brackets_what_the_explanation_then_takes(scan, model, quick, tmp_path):
    found = estimate(scan, model, quick)
    passes = explain(scan, model, tmp_path / "out", quick).document["network_passes"]
    assert (found.classes, found.points) == (len(LABELS) - 1, 2)
    assert found.passes_at_least <= sum(passes.values()) <= found.passes_at_most
    assert 0 < found.seconds_at_least <= found.seconds_at_most
    assert found.memory_bytes > 0
    assert f"{found.windows} windows" in describe_estimate(found)


def test_a_large_completeness_gap_is_told(scan, model, tmp_path):
    settings = request_of(method="integrated-gradients", samples=1, path="graded", device="cpu")
    found = explain(scan, model, tmp_path / "out", settings)
    assert any("sum to F(scan) - F(air) within" in text for text in found.document["messages"])


def test_all_adds_the_background(scan, model, tmp_path):
    found = explain(scan, model, tmp_path / "out", request_of(method="gradient", classes=("all",), device="cpu"))
    assert [entry["id"] for entry in found.document["classes"]] == list(LABELS)
    assert "samples" not in found.document["settings"]


def test_a_folder_filled_while_the_work_went_on_is_kept(scan, model, quick, tmp_path):
    out = tmp_path / "out"

    def fill(event):
        out.mkdir(exist_ok=True)
        (out / "mine.txt").write_text("precious")

    with pytest.raises(OutputError, match="exists already"):
        explain(scan, model, out, quick, progress=Progress(fill))
    assert [file.name for file in out.iterdir()] == ["mine.txt"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ct.nii.gz", "out"]


def test_two_runs_at_one_place_do_not_mix(scan, model, quick, tmp_path):
    inner = []

    def start_another(event):
        if event.stage == "attributions" and not inner:
            with pytest.raises(OutputError, match="another run is at work") as refusal:
                explain(scan, model, tmp_path / "out", request_of(method="gradient", device="cpu"))
            inner.append(refusal)

    explain(scan, model, tmp_path / "out", quick, progress=Progress(start_another))
    assert inner
    assert Explanation.load(tmp_path / "out").document["settings"]["method"] == "smoothgrad"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ct.nii.gz", "out"]


def test_a_resumed_run_publishes_only_its_own_files(scan, model, quick, tmp_path):
    def stop(event):
        if event.stage == "attributions" and "bright" in event.detail:
            raise Cancelled("stopped by the test")

    with pytest.raises(Cancelled):
        explain(scan, model, tmp_path / "out", quick, resume=True, progress=Progress(stop))
    left = tmp_path / ".out.partial"
    if left.is_dir():
        (left / "attributions" / ".dark.deadbeef.nii.gz").write_bytes(b"half")
    found = explain(scan, model, tmp_path / "out", replace(quick, classes=("bright",)), resume=True)
    assert found.explained == ("bright",)
    assert [file.name for file in (tmp_path / "out" / "attributions").iterdir()] == ["bright.nii.gz"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ct.nii.gz", "out"]


def test_a_volume_changed_in_memory_is_another_scan(scan, model, quick, tmp_path):
    volume = read_volume(scan)
    changed = replace(volume, voxels=volume.voxels + 1)
    hashes = [
        explain(one, model, tmp_path / name, quick).document["image"]["sha256"]
        for name, one in (("a", volume), ("b", changed))
    ]
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize("part", ["timings", "settings", "image", "messages", "device", "model.sha256"])
def test_a_document_that_lacks_a_part_is_refused(scan, model, quick, tmp_path, part):
    explain(scan, model, tmp_path / "out", quick)
    path = tmp_path / "out" / "explanation.json"
    document = json.loads(path.read_text())
    holder, _, key = part.rpartition(".")
    del (document[holder] if holder else document)[key]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=f"lacks .*{key}"):
        Explanation.load(tmp_path / "out")


def test_a_table_of_other_classes_than_the_document_is_refused(scan, model, quick, tmp_path):
    explain(scan, model, tmp_path / "out", quick)
    table = tmp_path / "out" / "importance_long.csv"
    table.write_text(table.read_text().replace("\nbright,", "\nbrighter,"))
    with pytest.raises(InputError, match="other classes"):
        Explanation.load(tmp_path / "out")
