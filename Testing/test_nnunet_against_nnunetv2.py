"""Our reading of nnU-Net against nnU-Net's own predictor, where it is installed: same grid, same logits, same labels."""

import numpy as np
import pytest
import torch

from Agg2ExpLib.case import Case
from Agg2ExpLib.models import load_model
from Agg2ExpLib.volume import read_volume, write_volume
from Testing.small_nnunet import INTENSITIES, REGIONS, architecture, old_description, plans, scan, write_folder

pytest.importorskip("nnunetv2.training.nnUNetTrainer.nnUNetTrainer", exc_type=ImportError)
torch.set_num_threads(1)

RESIDUAL = {"architecture": architecture(residual=True, levels=3), "patch_size": [8, 12, 8]}
OLD = {**old_description(), "architecture": None}
MASKED = {"normalization_schemes": ["ZScoreNormalization", "RescaleTo01Normalization"], "use_mask_for_norm": [True, False],
          **RESIDUAL}  # fmt: skip


def case_of(name):
    """Return the keywords of a folder, and the volumes of a scan."""
    by_modality = {"foreground_intensity_properties_by_modality": {"0": INTENSITIES},
                   "foreground_intensity_properties_per_channel": None}  # fmt: skip
    regions = {"labels": REGIONS, "order": [1, 3, 2]}
    turned = {"transpose_forward": [1, 0, 2], "transpose_backward": [1, 0, 2]}
    reader = {"image_reader_writer": "SimpleITKIOWithReorient"}
    return {
        "plain": ({}, [scan()]),
        "two folds": ({"folds": ("0", "3")}, [scan()]),
        "no mirroring": ({"mirror": None, "trainer": "nnUNetTrainerNoMirroring"}, [scan()]),
        "residual, no mirroring": (
            {"plan": plans(RESIDUAL), "mirror": None, "trainer": "nnUNetTrainerNoMirroring"}, [scan()]),
        "z-score": ({"plan": plans({"normalization_schemes": ["ZScoreNormalization"]}), "channels": ("MR",)}, [scan()]),
        "masked, residual, two channels": (
            {"plan": plans(MASKED, channels=2), "channels": ("T1", "T2"), "mirror": (0, 2)},
            [scan(border=3), scan(border=4, seed=1)],
        ),
        "old plans": ({"plan": _without(plans(OLD, **by_modality))}, [scan()]),
        "regions, transposed": ({"plan": plans(**turned), **regions}, [scan(seed=2)]),
        "coarse axis": ({"plan": plans(**turned)}, [scan((18, 7, 15), (1.5, 6.0, 1.5))]),
        "coarse target": ({"plan": plans({"spacing": [8.0, 2.0, 2.0], "patch_size": [4, 12, 8]})}, [scan()]),
        "by torch": ({"plan": plans(function="resample_torch_fornnunet")}, [scan()]),
        "by torch, coarse": (
            {"plan": plans(function="resample_torch_fornnunet")}, [scan((18, 15, 7), (1.5, 1.5, 6.0))]),
        "turned to RAS": ({"plan": plans(**reader)}, [scan(flips=(-1, 1, -1))]),
        "zero border": ({}, [scan(border=4)]),
        "batch norm": ({"trainer": "nnUNetTrainerBN"}, [scan()]),
        "smaller than a window": ({}, [scan((9, 22, 6))]),
        "own spacing": ({"plan": plans({"spacing": [2.5, 1.5, 1.5]})}, [scan()]),
    }[name]  # fmt: skip


def _without(found):
    for one in found["configurations"].values():
        one.pop("architecture", None)
    return {key: value for key, value in found.items() if value is not None}


CASES = [
    "plain", "two folds", "no mirroring", "z-score", "masked, residual, two channels", "old plans", "regions, transposed",
    "coarse axis", "coarse target", "by torch", "by torch, coarse", "turned to RAS", "zero border", "batch norm",
    "smaller than a window", "own spacing", "residual, no mirroring",
]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_prediction_is_nnunets_own(name, tmp_path, monkeypatch):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    options, volumes = case_of(name)
    folder = write_folder(tmp_path, **options)
    files = [write_volume(one, tmp_path / f"ct_{index:04}.nii.gz") for index, one in enumerate(volumes)]
    predictor = nnUNetPredictor(use_mirroring=True, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), None)
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    data, _, _ = preprocessor.run_case(
        [str(one) for one in files], None, predictor.plans_manager, predictor.configuration_manager,
        predictor.dataset_json)  # fmt: skip
    data = torch.from_numpy(np.asarray(data))
    half = predictor.predict_logits_from_preprocessed_data(data).float().numpy()
    predictor.predict_from_files_sequential([[str(one) for one in files]], [str(tmp_path / "theirs")])
    expected = read_volume(tmp_path / "theirs.nii.gz", kind="labels")
    # With windows this small the sums of nnU-Net in float16 are coarse; the same code in float32 is what we compute.
    monkeypatch.setattr(torch, "half", torch.float32)
    single = predictor.predict_logits_from_preprocessed_data(data).numpy()

    case = Case.open([str(one) for one in files], load_model(folder), device="cpu")
    assert np.array_equal(case.prepared.x, data.numpy())
    assert np.allclose(_logits(case), single, rtol=1e-4, atol=1e-4 * np.abs(single).max())
    assert case.prediction().grid.same_as(expected.grid)
    assert len(np.unique(expected.voxels)) > 1
    # Given nnU-Net's logits, the label map is its own to the last voxel.
    assert np.array_equal(case.prepared.to_scan(case.segmentation.labels, half).voxels, expected.voxels)


def _logits(case):
    from Agg2ExpLib.case.segmentation import segment

    (part,), (stitched,) = case.model.parts, case.stitched
    return segment(stitched, part.classes, part.decision, keep_logits=torch.float32).logits
