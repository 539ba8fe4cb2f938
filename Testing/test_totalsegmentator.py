"""TotalSegmentator's tasks, from an imitation of its weights folder: five tiny networks whose labels are merged."""

import numpy as np
import pytest
import torch

from Agg2ExpLib.case import Case
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation import explain
from Agg2ExpLib.methods import Gradient
from Agg2ExpLib.models import load_model
from Agg2ExpLib.models.formats.totalsegmentator import TASKS, installed
from Agg2ExpLib.models.testing import check_model
from Agg2ExpLib.repeating import read_repeat
from Agg2ExpLib.request import request_of
from Agg2ExpLib.volume import read_volume, write_volume
from Testing.small_nnunet import INTENSITIES, plans, scan, write_folder

torch.set_num_threads(1)
TRAINER = "nnUNetTrainerNoMirroring"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Write the weights of ``total`` and ``total_fast``; each part has intensities of its own."""
    root = tmp_path / "results"
    for number, labels in (*TASKS["total"].parts, *TASKS["total_fast"].parts):
        named = {"background": 0, **{label: index for index, label in enumerate(labels, start=1)}}
        own = {"0": {**INTENSITIES, "mean": -150.0 + number % 7}}
        step = 1.5 if number < 297 else 3.0
        plan = plans({"spacing": [step] * 3}, foreground_intensity_properties_per_channel=own)
        home = root / f"Dataset{number}_TotalSegmentator"
        folder = write_folder(home, plan, labels=named, trainer=TRAINER, mirror=None, seed=number)
        folder.rename(home / f"{TRAINER}__nnUNetPlans__3d_fullres")
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(root))
    return root


def small(**options):
    return scan((12, 14, 11), (2.0, 1.7, 2.5), scale=400.0, **options)


def test_five_parts_are_merged_and_written_on_the_scans_own_grid(weights):
    from scipy.ndimage import zoom

    model = load_model("totalsegmentator:total")
    assert len(model.card.labels) == 118
    assert model.card.labels[25:27] == ("sacrum", "vertebrae_S1")
    assert (model.card.step, model.card.mirror_axes) == (0.8, ())
    volume = small()
    case = Case.open(volume, model, device="cpu")
    # The makers' own steps: RAS, zoom with end points aligned, whole numbers.
    turned = volume.voxels[::-1, ::-1].astype(np.float64)
    wanted = zoom(turned, np.float32([2.0, 1.7, 2.5]) / np.array([1.5] * 3), order=1, mode="nearest").astype(np.int32)
    assert np.array_equal(case.prepared.x[0], wanted.transpose(2, 1, 0).astype(np.float32))
    labels = np.zeros(case.prepared.shape, dtype=int)
    first = 1
    for (_, names), part in zip(TASKS["total"].parts, case.segmentation.parts, strict=True):
        own = np.where(part.labels > 0, part.labels, 0)
        assert set(np.unique(own)) <= {0, *range(first, first + len(names))}
        labels = np.where(own > 0, own, labels)
        first += len(names)
    assert np.array_equal(case.segmentation.labels, labels)
    assert len(np.unique(labels)) > 10
    back = zoom(
        labels.transpose(2, 1, 0).astype(np.uint8), np.divide(volume.shape, wanted.shape), order=0, mode="nearest"
    )
    found = case.prediction()
    assert np.array_equal(found.voxels, back[::-1, ::-1])
    assert found.grid == volume.grid


def test_each_part_normalises_as_its_own_folder_does(weights):
    model = load_model("totalsegmentator:total")
    prepared = model.prepare([small()])
    window = torch.from_numpy(np.ascontiguousarray(prepared.x[None, :, :8, :12, :8])).double()
    for part, network in zip(model.parts, model.networks, strict=True):
        how = network.plan.normalisations[0]
        ready = (window.clamp(-950, 600) - how.mean) / 400
        expected = network.build("cpu", torch.float64)(ready)
        assert torch.allclose(part.build("cpu", torch.float64)(window), expected)
        assert part.tiling.padding == how.mean
    assert prepared.removed == pytest.approx([-1000.0])
    assert len({network.plan.normalisations for network in model.networks}) == 5


def test_a_class_is_explained_by_its_part_and_the_command_repeats(weights, tmp_path, capsys):
    from Agg2ExpLib.cli import main

    model = load_model("totalsegmentator:total")
    case = Case.open(small(), model, device="cpu")
    sizes = np.bincount(case.segmentation.labels.ravel(), minlength=118)
    index = int(np.argmax(sizes[1:])) + 1
    (one,) = case.attribute(Gradient(), [index])
    assert one.class_index == index
    assert np.abs(one.values).max() > 0
    write_volume(small(), tmp_path / "ct.nii.gz")
    words = ["explain", tmp_path / "ct.nii.gz", "--model", "totalsegmentator:total", "--method", "gradient", "--out",
             tmp_path / "out", "--classes", model.card.labels[index], "--device", "cpu", "--progress", "none"]  # fmt: skip
    assert main([str(word) for word in words]) == 0
    written = read_volume(tmp_path / "out" / "prediction.nii.gz", kind="labels")
    assert np.array_equal(written.voxels, case.prediction().voxels)
    assert read_repeat(tmp_path / "out").model.sha256 == model.sha256


def test_a_task_of_one_network_has_nnunets_own_units(weights, tmp_path):
    model = load_model("totalsegmentator:total_fast")
    assert len(model.parts) == 1
    check_model(model, [small()])
    prepared = model.prepare([small()])
    assert prepared.x.max() <= (600 + 150) / 400 + 0.1
    found = explain(small(), model, None, request_of("gradient", classes=(model.card.labels[1],), device="cpu"))
    assert found is not None


def test_the_contract_of_a_model_holds_for_five_parts(weights):
    check_model(load_model("totalsegmentator:total"), [small()])


def test_what_is_missing_is_named(weights, monkeypatch, tmp_path):
    assert installed()["total"] == []
    assert installed()["total_mr"] == [850, 851]
    with pytest.raises(InputError, match=r"total_mr are not all there \(Dataset 850, 851\)"):
        load_model("totalsegmentator:total_mr")
    with pytest.raises(InputError, match="has no task 'totl' that is read here: did you mean total"):
        load_model("totalsegmentator:totl")
    with pytest.raises(InputError, match="itself says the mirroring"):
        load_model("totalsegmentator:total", mirroring="on")
    next(weights.glob("Dataset293*/*/fold_0/checkpoint_final.pth")).unlink()
    assert installed()["total"] == [293]
    with pytest.raises(InputError, match=r"total are not all there \(Dataset 293\)"):
        load_model("totalsegmentator:total")
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="Dataset 291, 292, 293, 294, 295"):
        load_model("totalsegmentator:total")


def test_totalsegmentators_own_prediction_is_explained_by_the_parts_of_its_classes(weights):
    from Agg2ExpLib.case.segmentation import stitched_logits
    from Agg2ExpLib.volume import Volume

    model, volume = load_model("totalsegmentator:total"), small()
    labels = model.card.labels
    spleen, heart = labels.index("spleen"), labels.index("heart")
    theirs = np.zeros(volume.shape, dtype=np.uint8)
    theirs[2:6, 3:9, 2:8], theirs[7:10, 3:9, 2:8] = spleen, heart
    case = Case.open(volume, model, device="cpu", prediction=Volume(theirs, volume.grid))
    assert np.array_equal(case.prediction().voxels, theirs)
    assert set(np.unique(case.segmentation.labels)) == {0, spleen, heart}
    for name, part in (("spleen", 0), ("heart", 2)):
        index = labels.index(name)
        (aim,) = case.objectives([name])
        channel = model.parts[part].classes.index(index)
        logits = stitched_logits(case.stitched[part], len(model.parts[part].classes)).numpy()
        assert aim.value == pytest.approx(float(logits[channel][case.segmentation.labels == index].sum()), rel=1e-4)
