"""A prediction that is given is what is explained, whatever the network decides here."""

import numpy as np
import pytest
import torch

from Agg2ExpLib.case import Case
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation import Explanation, explain
from Agg2ExpLib.methods import Gradient
from Agg2ExpLib.models import load_model
from Agg2ExpLib.repeating import read_repeat
from Agg2ExpLib.request import request_of
from Agg2ExpLib.volume import Volume, read_volume, to_grid, write_volume
from Agg2ExpLib.whatif import whatif
from Testing.small_nnunet import REGIONS, plans, scan, write_folder

torch.set_num_threads(1)
#: As their makers number them.
LABELS = {"background": 0, "heart": 2, "lung": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_folder(tmp_path_factory.mktemp("given") / "Dataset001_A", plans(), labels=LABELS)
    return load_model(folder, mirroring="off")


@pytest.fixture(scope="module")
def volume():
    return scan((16, 14, 12), (2.0, 2.0, 2.0), scale=400.0)


def test_the_mask_and_its_logits_are_those_of_the_given_labels(model, volume):
    own = Case.open(volume, model, device="cpu", precision="float64")
    wanted = np.zeros(volume.shape, dtype=np.uint8)
    wanted[4:9, 3:10, 2:8] = 2
    case = Case.open(volume, model, device="cpu", precision="float64", prediction=Volume(wanted, volume.grid))
    heart = model.card.labels.index("heart")
    inside = case.segmentation.labels == heart
    expected = to_grid(Volume(wanted, volume.grid), case.prepared.grid, "nearest").voxels == 2
    assert np.array_equal(inside, expected)
    assert not np.array_equal(own.segmentation.labels == heart, inside)
    from Agg2ExpLib.case.segmentation import stitched_logits

    logits = stitched_logits(case.stitched[0], len(model.card.labels)).numpy()
    (aim,) = case.objectives(["heart"])
    assert np.isclose(aim.value, logits[model.parts[0].classes.index(heart)][inside].sum())
    share = case.segmentation.parts[0].probability(heart, (slice(None),) * 3)[inside]
    assert np.allclose(share, torch.from_numpy(logits).softmax(dim=0).numpy()[heart][inside])
    (one,) = case.attribute(Gradient(), ["heart"])
    assert np.isfinite(one.values).all() and one.values.any()
    assert case.segmentation.agreement == pytest.approx((own.segmentation.labels == case.segmentation.labels).mean())


def test_the_networks_own_prediction_given_back_changes_nothing(model, volume, tmp_path):
    write_volume(volume, tmp_path / "ct.nii.gz")
    request = request_of("gradient", device="cpu")
    plain = explain(tmp_path / "ct.nii.gz", model, tmp_path / "plain", request)
    given = tmp_path / "plain" / "prediction.nii.gz"
    assert set(np.unique(read_volume(given, kind="labels").voxels)) <= {0, 1, 2}
    found = explain(tmp_path / "ct.nii.gz", model, tmp_path / "given", request, prediction=given)
    assert np.array_equal(found.prediction().voxels, plain.prediction().voxels)
    assert any("decides the same at" in line for line in found.document["messages"])
    again = read_repeat(tmp_path / "given").run(tmp_path / "again")
    assert again.document["given_prediction"] == found.document["given_prediction"]
    with pytest.raises(InputError, match="without --prediction"):
        whatif(Explanation.load(tmp_path / "given"), "heart", tmp_path / "whatif", model=model, device="cpu")


def test_a_prediction_of_another_scan_or_model_is_refused(model, volume, tmp_path):
    odd = np.zeros(volume.shape, dtype=np.uint8)
    odd[0, 0, 0] = 7
    with pytest.raises(InputError, match="has the label 7"):
        explain(volume, model, request=request_of("gradient", device="cpu"), prediction=Volume(odd, volume.grid))
    moved = scan((16, 14, 13), (2.0, 2.0, 2.0))
    other = Volume(np.zeros(moved.shape, np.uint8), moved.grid)
    with pytest.raises(InputError, match="another grid than the scan"):
        explain(volume, model, request=request_of("gradient", device="cpu"), prediction=other)
    folder = write_folder(tmp_path / "Dataset002_B", plans(), labels=REGIONS, order=[1, 2, 3])
    regions = load_model(folder, mirroring="off")
    with pytest.raises(InputError, match="overlapping regions"):
        explain(volume, regions, request=request_of("gradient", device="cpu"), prediction=Volume(odd * 0, volume.grid))
