"""Folders that nnU-Net v2 trained: detection, preparation, gradients, the way back, and what is refused."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch

from Agg2ExpLib.case import Case
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation import explain
from Agg2ExpLib.methods import GradCAM, Gradient, IntegratedGradients, KernelSHAP
from Agg2ExpLib.models import load_model
from Agg2ExpLib.models.formats.nnunet_network import MirroredFolds
from Agg2ExpLib.models.formats.nnunet_plans import Resampling
from Agg2ExpLib.models.formats.nnunet_preparation import _unrounded
from Agg2ExpLib.models.formats.nnunet_resampling import coarse_axis, new_shape, resample
from Agg2ExpLib.models.registry import format_of
from Agg2ExpLib.models.testing import check_model
from Agg2ExpLib.repeating import read_repeat
from Agg2ExpLib.request import request_of
from Agg2ExpLib.volume import Grid, Volume, read_volume, write_volume
from Testing.small_nnunet import INTENSITIES, REGIONS, TRAINED, architecture, plans, scan, write_folder

torch.set_num_threads(1)
SPLINE = Resampling("resample_data_or_seg_to_shape", 3, 0, None)
ZSCORE = {"normalization_schemes": ["ZScoreNormalization"]}
RESIDUAL = {"architecture": architecture(residual=True)}


def loaded(tmp_path, options=None, **folder):
    return load_model(write_folder(tmp_path, **folder), **(options or {}))


def opened(tmp_path, volumes=None, precision="float64", options=None, **folder):
    return Case.open(volumes or scan(), loaded(tmp_path, options, **folder), device="cpu", precision=precision)


def undivided(case, x):
    """Return the stitched logits in the plainest way, differentiable: pad with 0, run every window, blend, cut."""
    (stitched,) = case.stitched
    windows = stitched.windows
    total = torch.zeros((len(case.model.parts[0].classes), *windows.padded_shape), dtype=x.dtype)
    weights = torch.zeros(windows.padded_shape, dtype=x.dtype)
    padded = windows.pad(x, 0.0)
    for index in range(len(windows)):
        where = (slice(None), *windows.slices(index))
        total[where] = total[where] + stitched.network(padded[where][None])[0] * windows.weight.double()
        weights[windows.slices(index)] += windows.weight.double()
    return windows.unpad(total / weights)


def value_of(case, x, index):
    channel = case.objectives([index])[0].channel
    return undivided(case, x)[channel][torch.from_numpy(case.segmentation.parts[0].mask(index))].sum()


def present(case):
    return [aim.class_index for aim in case.objectives(range(1, len(case.labels))) if aim.voxels]


def test_a_folder_is_known_and_says_what_it_is(tmp_path):
    folder = write_folder(tmp_path, folds=("0", "2", "all"))
    assert format_of(str(folder))[0].id == "nnunet"
    model = load_model(folder)
    card = model.card
    assert card.labels == ("background", "lung", "heart")
    assert (card.window, card.step, card.blending, card.padding) == ((8, 12, 8), 0.5, "nnunet", 0.0)
    assert card.mirror_axes == (0, 1, 2)
    assert any("mean of the logits of 0, 2" in line for line in card.assumptions)
    assert any("8 mirrored copies" in line for line in card.assumptions)
    assert any("float16" in line for line in card.assumptions)
    # The data set's folder names its only configuration.
    assert load_model(tmp_path).sha256 == model.sha256
    one = load_model(folder, folds=["2"], mirroring="off")
    assert one.card.mirror_axes == ()
    assert any("off as asked for" in line for line in one.card.assumptions)
    assert len({model.sha256, one.sha256, load_model(folder, folds=["2"]).sha256}) == 3


def test_folds_and_mirrored_copies_are_averaged_as_logits(tmp_path):
    folder = write_folder(tmp_path, folds=("0", "1"), mirror=(0, 2))
    x = torch.randn((1, 1, 8, 12, 8), dtype=torch.float64)
    whole = load_model(folder).build("cpu", torch.float64)(x)
    total = 0
    for fold in ("0", "1"):
        network = load_model(folder, folds=[fold], mirroring="off").build("cpu", torch.float64)
        for axes in ([], [2], [4], [2, 4]):
            total = total + network(x.flip(axes)).flip(axes)
    assert torch.allclose(whole, total / 8, rtol=1e-12)
    assert len(MirroredFolds([torch.nn.Identity()], (0, 1, 2)).copies) == 8


def test_a_network_that_was_built_is_not_changed_by_building_another(tmp_path):
    model = loaded(tmp_path)
    first = model.build("cpu", torch.float32)
    model.build("cpu", torch.float64)
    assert next(first.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    "folder",
    [
        {"folds": ("0", "1"), "mirror": (0, 1)},
        {"plan": plans(ZSCORE), "channels": ("MR",), "mirror": None},
        {"plan": plans(RESIDUAL), "mirror": (2,)},
        {"labels": REGIONS, "order": [1, 3, 2], "mirror": None},
    ],
    ids=["folds and mirrors", "z-score", "residual", "regions"],
)
def test_gradients_are_autograds_through_the_same_network_and_windows(tmp_path, folder):
    case = opened(tmp_path, scan((11, 13, 9), (2.0, 2.0, 3.0)), **folder)
    assert present(case)
    for one in case.attribute(Gradient(), present(case)):
        x = case.stitched[0].x.clone().requires_grad_(True)
        (expected,) = torch.autograd.grad(value_of(case, x, one.class_index), x)
        found = one.full(case.prepared.shape)
        assert np.abs(found - expected[0].numpy()).max() < 1e-9 * float(expected.abs().max())


def test_integrated_gradients_are_complete_with_a_z_scored_network(tmp_path):
    smooth = {"architecture": architecture()}
    smooth["architecture"]["arch_kwargs"]["norm_op"] = None
    case = opened(
        tmp_path, scan((9, 12, 8), (2.0, 2.0, 3.0)), plan=plans({**ZSCORE, **smooth}), channels=("MR",), mirror=None
    )
    index = present(case)[0]
    (one,) = case.attribute(IntegratedGradients(samples=200, path="uniform"), [index])
    nothing = torch.full_like(case.stitched[0].x, float(case.prepared.removed[0]))
    assert one.baseline_value == pytest.approx(float(value_of(case, nothing, index)))
    assert one.completeness_gap < 5e-3


def test_kernelshap_is_efficient_with_a_z_scored_network(tmp_path):
    case = opened(tmp_path, scan((9, 12, 8), (2.0, 2.0, 3.0)), plan=plans(ZSCORE), channels=("MR",), mirror=None)
    index = present(case)[0]
    method = KernelSHAP(supervoxels="cubes", supervoxel_count=6, samples=64, scope="scan")
    (one,) = case.attribute(method, [index])
    told = one.supervoxels
    assert told.values.sum() == pytest.approx(told.full - told.empty, rel=1e-6)
    assert told.full == pytest.approx(float(value_of(case, case.stitched[0].x, index)))
    nothing = torch.full_like(case.stitched[0].x, float(case.prepared.removed[0]))
    division = case.divide(method).labels
    if (division > 0).all():
        assert told.empty == pytest.approx(float(value_of(case, nothing, index)))


@pytest.mark.parametrize(
    ("folder", "volumes"),
    [
        ({}, [scan()]),
        ({"plan": plans(transpose_forward=[2, 0, 1], transpose_backward=[1, 2, 0])}, [scan()]),
        ({"plan": plans(ZSCORE), "channels": ("MR",)}, [scan(border=2)]),
        ({"plan": plans(channels=2), "channels": ("CT", "CT late")}, [scan(), scan(seed=1)]),
        ({"labels": REGIONS, "order": [1, 2, 3], "mirror": None}, [scan()]),
    ],
    ids=["ct", "transposed", "mr", "two channels", "regions"],
)
def test_it_keeps_the_contract_of_a_model(tmp_path, folder, volumes):
    model = loaded(tmp_path, **folder)
    air = [Volume(np.full(one.shape, -1000.0, np.float32), one.grid) for one in volumes]
    check_model(model, volumes, nothing=air if "CT" in model.card.channels else None)
    assert model.grid_of(volumes) == model.prepare(volumes).grid


def test_ct_is_clipped_and_scaled_by_the_plans(tmp_path):
    plan = plans({"spacing": [2.5, 1.5, 1.5]})
    prepared = loaded(tmp_path, plan=plan).prepare([scan()])
    wanted = (np.clip(scan().voxels, -950, 600) - np.float32(-150)) / np.float32(400)
    assert np.array_equal(prepared.x[0], wanted.transpose(2, 1, 0))
    assert prepared.removed == pytest.approx([(-950 + 150) / 400])
    assert prepared.display_range == (-950.0, 600.0)
    assert np.allclose(prepared.display.voxels, np.clip(scan().voxels, -950, 600).transpose(2, 1, 0), atol=1e-3)


@pytest.mark.parametrize(
    ("scheme", "masked", "nothing"),
    [("ZScoreNormalization", False, None), ("ZScoreNormalization", True, 0.0), ("RescaleTo01Normalization", False, 0.0),
     ("NoNormalization", False, 0.0)],
)  # fmt: skip
def test_statistics_of_the_scan_are_held_and_told(tmp_path, scheme, masked, nothing):
    plan = plans({"normalization_schemes": [scheme], "use_mask_for_norm": [masked], "spacing": [2.5, 1.5, 1.5]})
    volume = scan(border=3)
    voxels = volume.voxels.copy()
    voxels[3, 3, 3] = voxels[-4, -4, -4] = 900.0
    voxels[3, 8:10, 8:10] = 0.0
    prepared = loaded(tmp_path, plan=plan, channels=("MR",)).prepare([Volume(voxels, volume.grid)])
    crop = voxels[3:-3, 3:-3, 3:-3].transpose(2, 1, 0)
    assert prepared.x.shape[1:] == crop.shape
    if scheme == "ZScoreNormalization":
        used = prepared.x[0][crop != 0] if masked else prepared.x[0]
        assert (used.mean(), used.std()) == (pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.02))
        if masked:
            assert not prepared.x[0][crop == 0].any()
        assert any("held fixed" in note for note in prepared.notes)
        nothing = 0.0 if masked else -crop.mean() / crop.std()
    if scheme == "RescaleTo01Normalization":
        assert (prepared.x.min(), prepared.x.max()) == (0.0, 1.0)
        nothing = max(-crop.min() / (crop.max() - crop.min()), 0)
    assert prepared.removed == pytest.approx([nothing], abs=1e-3)
    assert any(note.startswith("Cropped to what is not 0") for note in prepared.notes)


def test_the_networks_grid_lies_in_the_patient_where_the_scan_does(tmp_path):
    plan = plans(transpose_forward=[1, 0, 2], transpose_backward=[1, 0, 2])
    volume = scan((24, 30, 20))
    voxels = np.full(volume.shape, -900.0, np.float32)
    voxels[:, :5] = 0
    voxels[6:12, 14:22, 8:13] = 400
    prepared = loaded(tmp_path, plan=plan).prepare([Volume(voxels, volume.grid)])
    bright = prepared.display.voxels + 900
    where = np.argwhere(bright > 600)
    seen = prepared.grid.index_to_world(where.mean(axis=0))
    true = volume.grid.index_to_world(np.argwhere(voxels > 0).mean(axis=0))
    assert np.abs(seen - true).max() < 1.0
    # Voxels along y of the file come first, and the crop's field of view is divided without a rest.
    assert prepared.grid.shape == (round(25 * 1.5 / 3.0), 25, 18)
    assert prepared.grid.voxel_volume * np.prod(prepared.grid.shape) == pytest.approx(
        volume.grid.voxel_volume * 24 * 25 * 20
    )


def test_resampling_is_scikit_images():
    transform = pytest.importorskip("skimage.transform")
    array = np.random.default_rng(0).normal(size=(9, 11, 7)).astype(np.float32)
    for order, shape in ((3, (14, 8, 9)), (1, (5, 22, 7))):
        how = Resampling("resample_data_or_seg_to_shape", order, 0, None)
        wanted = transform.resize(array.astype(float), shape, order, mode="edge", anti_aliasing=False)
        assert np.array_equal(resample(array, shape, how, (1, 1, 1), (1, 1, 1)), wanted.astype(np.float32))


def test_a_coarse_axis_is_resampled_apart():
    assert coarse_axis(SPLINE, (5.0, 1.0, 1.0), (1.0, 1.0, 1.0)) == 0
    assert coarse_axis(SPLINE, (1.0, 1.0, 1.0), (1.0, 4.0, 1.0)) == 1
    assert coarse_axis(SPLINE, (3.0, 1.0, 1.0), (1.0, 1.0, 1.0)) is None
    assert coarse_axis(SPLINE, (1.0, 5.0, 5.0), (1.0, 1.0, 1.0)) is None
    array = np.random.default_rng(0).normal(size=(6, 4, 5)).astype(np.float32)
    out = resample(array, (6, 10, 5), SPLINE, (1.0, 5.0, 1.0), (1.0, 2.0, 1.0))
    # Whole slices, each the nearest.
    taken = [int(np.floor((n + 0.5) * 0.4)) for n in range(10)]
    assert np.array_equal(out, array[:, taken])


def test_a_tie_of_the_new_shape_is_decided_by_the_spacing_of_the_file():
    assert new_shape((75, 75, 85), (1.5, 1.5, 0.8), (3.0, 3.0, 1.6)) == (38, 38, 42)
    noisy = float(np.linalg.norm(np.float32([0.7, 0.3, 0.2]) / np.linalg.norm([0.7, 0.3, 0.2]) * 1.5))
    assert _unrounded(noisy * (1 + 4e-8)) == 1.5
    assert _unrounded(float(np.float32(0.8))) == float(np.float32(0.8))
    assert _unrounded(0.8 * (1 + 1e-15)) == 0.8
    assert _unrounded(0.123456789123) == 0.123456789123


def test_makers_values_are_written_and_read_back_as_classes(tmp_path):
    folder = write_folder(tmp_path, labels=REGIONS, order=[1, 3, 2], mirror=None)
    found = explain(scan(), folder, tmp_path / "out", request_of("gradient", device="cpu"))
    case = Case.open(scan(), load_model(folder), device="cpu")
    written = read_volume(tmp_path / "out" / "prediction.nii.gz", kind="labels").voxels
    classes = found.prediction().voxels
    assert {1, 2, 3} <= set(np.unique(written))
    assert np.array_equal(written == 3, classes == 2)
    assert np.array_equal(written == 2, classes == 3)
    assert np.array_equal(case.prediction().voxels, written)
    assert case.segmentation.parts[0].mask(1).sum() >= (case.segmentation.labels == 1).sum()


def test_the_command_explains_a_folder_and_repeats_it(tmp_path, capsys):
    from Agg2ExpLib.cli import main

    folder = write_folder(tmp_path, folds=("0", "1"))
    write_volume(scan(), tmp_path / "ct.nii.gz")
    words = ["explain", tmp_path / "ct.nii.gz", "--model", folder, "--method", "gradient", "--out", tmp_path / "out",
             "--folds", "1", "--mirroring", "off", "--device", "cpu", "--progress", "none"]  # fmt: skip
    assert main([str(word) for word in words]) == 0
    assert "heart" in capsys.readouterr().out
    document = json.loads((tmp_path / "out" / "explanation.json").read_text())
    assert document["model"]["options"] == {"folds": ["1"], "mirroring": "off"}
    case = Case.open(str(tmp_path / "ct.nii.gz"), load_model(folder, folds=["1"], mirroring="off"), device="cpu")
    written = read_volume(tmp_path / "out" / "prediction.nii.gz", kind="labels")
    assert np.array_equal(written.voxels, case.prediction().voxels)
    assert written.grid.same_as(scan().grid)
    again = read_repeat(tmp_path / "out")
    assert again.model.sha256 == document["model"]["sha256"]
    assert again.model.card.mirror_axes == ()
    # What a bundle of ours cannot honour is refused, not ignored.
    assert main(["explain", str(tmp_path / "ct.nii.gz"), "--out", str(tmp_path / "x"), "--mirroring", "off"]) == 2
    assert "has no mirroring to choose" in capsys.readouterr().err


def test_grad_cam_looks_at_one_answer_only(tmp_path):
    case = opened(tmp_path, precision="float32", mirror=(0,))
    with pytest.raises(InputError, match="choose one fold with --folds and --mirroring off"):
        list(case.attribute(GradCAM(), present(case)[:1]))
    alone = opened(tmp_path, precision="float32", options={"mirroring": "off"}, mirror=(0,))
    assert list(alone.attribute(GradCAM(), present(alone)[:1]))


class Bomb:
    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_hostile_checkpoint_runs_nothing(tmp_path):
    folder = write_folder(tmp_path)
    path, mark = folder / "fold_0" / "checkpoint_final.pth", tmp_path / "ran"
    content = torch.load(path, weights_only=False)
    Bomb.path = mark
    torch.save({**content, "logging": Bomb()}, path)
    with pytest.raises(InputError, match="nothing in it was run"):
        load_model(folder)
    assert not mark.exists()
    with path.open("rb"):
        pickle.loads(pickle.dumps(Bomb())).close()
    assert mark.exists()  # the trap itself works


def test_classes_that_were_numbered_otherwise_in_the_training_are_refused(tmp_path):
    folder = write_folder(tmp_path)
    path = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    content["init_args"]["dataset_json"] = {"labels": {"background": 0, "heart": 1, "lung": 2}}
    torch.save(content, path)
    with pytest.raises(InputError, match=r"label 1 for heart, and .*dataset.json says 2"):
        load_model(folder)


def test_a_zip_that_nnunet_exported_is_to_be_unpacked(tmp_path):
    folder = write_folder(tmp_path / "results")
    packed = shutil.make_archive(str(tmp_path / "exported"), "zip", folder.parent)
    with pytest.raises(InputError, match="unpack it and give the folder"):
        load_model(packed)


def changed(folder, name, **changes):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def of_configuration(**changes):
    return {"plan": plans(changes)}


def with_arguments(**changes):
    found = architecture()
    found["arch_kwargs"].update(changes)
    return {"architecture": found}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "plans.json").unlink(), "plans.json: is missing"),
        (lambda f: (f / "dataset.json").unlink(), "dataset.json: is missing"),
        (lambda f: shutil.rmtree(f / "fold_0"), "has no fold with a checkpoint_final.pth"),
        (lambda f: (f / "fold_0" / "checkpoint_final.pth").write_bytes(b"x" * 99), "download did not finish"),
        (lambda f: changed(f, "plans.json", configurations={}), "has no configuration '3d_fullres'"),
        (lambda f: changed(f, "plans.json", image_reader_writer="MyIO"), "the reader MyIO is not one"),
        (lambda f: changed(f, "plans.json", label_manager="Mine"), "the label manager Mine is not one"),
        (lambda f: changed(f, "plans.json", dataset_name="Dataset001_Other"), "belongs to another plan"),
        (lambda f: changed(f, "plans.json", transpose_forward=[0, 0, 1]), "does not name each axis once"),
        (lambda f: (f / "plans.json").write_text("{}"), "is not what nnU-Net v2 writes"),
        (lambda f: changed(f, "plans.json", transpose_backward=[1, 2, 0]), "does not undo transpose_forward"),
        (
            lambda f: changed(
                f, "plans.json", foreground_intensity_properties_per_channel={"0": {**INTENSITIES, "std": 5}}
            ),
            "foreground_intensity_properties_per_channel",
        ),
        (lambda f: changed(f, "dataset.json", labels={"background": 0, "a": 1}), "another plan"),
        (lambda f: changed(f, "dataset.json", labels={"background": 0, "a": 2, "b": 3}), "not 0, 1, 2"),
    ],
)
def test_a_folder_that_is_damaged_or_unknown_is_refused_by_name(tmp_path, change, words):
    folder = write_folder(tmp_path)
    change(folder)
    with pytest.raises(InputError, match=words):
        load_model(f"nnunet:{folder}")


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ({"trainer": "MyTrainer"}, "was trained by MyTrainer"),
        ({"trainer": "nnUNetTrainerSwinUNETR"}, "was trained by nnUNetTrainerSwinUNETR"),
        ({"mirror": (0, 3)}, "mirrors along the axes"),
        ({"mirror": "01"}, "mirrors along the axes"),
        (of_configuration(resampling_fn_data_kwargs={"order": 9}), "an order of 9"),
        (
            of_configuration(previous_stage="3d_lowres"),
            "second stage of a cascade and needs the segmentation of 3d_lowres",
        ),
        (of_configuration(preprocessor_name="Mine"), "the preprocessor Mine is not one"),
        (of_configuration(normalization_schemes=["Mine"]), "the normalisation Mine is not one"),
        (of_configuration(resampling_fn_data="mine"), "the resampling function mine is not one"),
        (of_configuration(resampling_fn_data_kwargs={"power": 3}), "are not rebuilt here"),
    ],
)
def test_what_is_not_rebuilt_exactly_is_refused_by_name(tmp_path, folder, words):
    with pytest.raises(InputError, match=words):
        loaded(tmp_path, **folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"architecture": {**architecture(), "network_class_name": "mine.Net"}},
            "the network class mine.Net is not one",
        ),
        (with_arguments(norm_op="mine.Norm"), "the normalisation mine.Norm is not one"),
        (with_arguments(nonlin="torch.nn.GELU"), "the activation torch.nn.GELU is not one"),
        (with_arguments(attention=True), "the argument attention of PlainConvUNet"),
        (with_arguments(conv_op="torch.nn.modules.conv.Conv2d"), "is not 3D"),
        (with_arguments(strides=[[1, 1, 1]]), "1 entries do not fit the 2 levels"),
        (with_arguments(features_per_stage=[4, 7]), "the checkpoint is of another plan"),
    ],
)
def test_networks_of_other_makers_are_refused_by_name(tmp_path, change, words):
    folder = write_folder(tmp_path)
    content = plans(change)
    (folder / "plans.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=words):
        load_model(folder)


def test_options_that_do_not_fit_are_refused(tmp_path):
    folder = write_folder(tmp_path, folds=("0", "1"))
    with pytest.raises(InputError, match=r"has no checkpoint_final.pth of fold 4; there are fold_0, fold_1"):
        load_model(folder, folds=["4"])
    with pytest.raises(InputError, match="the plans of nnU-Net say the spacing"):
        load_model(folder, spacing=(1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="must be on or off"):
        load_model(folder, mirroring="maybe")
    with pytest.raises(InputError, match="its windows have 8 x 12 x 8 voxels"):
        load_model(folder, window=(16, 16, 16))
    with pytest.raises(InputError, match="give that folder, and --folds"):
        load_model(folder / "fold_0" / "checkpoint_final.pth")
    shutil.copytree(folder, tmp_path / TRAINED.replace("fullres", "lowres"))
    with pytest.raises(InputError, match="holds several trained folders"):
        load_model(tmp_path)
    with pytest.raises(InputError, match="takes 1 channel"):
        Case.open([scan(), scan()], load_model(folder), device="cpu")
    with pytest.raises(InputError, match="is 0 everywhere"):
        Case.open(Volume(np.zeros((9, 9, 9), np.float32), Grid((9, 9, 9), np.eye(4))), load_model(folder), device="cpu")


def test_the_best_checkpoint_is_taken_where_there_is_no_final_one_and_said(tmp_path):
    folder = write_folder(tmp_path, folds=("all",), name="checkpoint_best.pth")
    assert any("checkpoint_best.pth, because" in line for line in load_model(folder).card.assumptions)


def test_a_tensor_that_is_stated_twice_and_differently_is_refused(tmp_path):
    folder = write_folder(tmp_path)
    path = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    content["network_weights"]["decoder.encoder.stages.0.0.convs.0.conv.bias"] = torch.ones(4)
    torch.save(content, path)
    with pytest.raises(InputError, match=r"states encoder.stages.0.0.convs.0.conv.bias twice and differently"):
        load_model(folder)


def test_intensities_of_the_plans_are_those_of_the_channel(tmp_path):
    second = {**INTENSITIES, "mean": 50.0, "std": 100.0}
    plan = plans(channels=2, foreground_intensity_properties_per_channel={"0": INTENSITIES, "1": second})
    prepared = loaded(tmp_path, plan=plan, channels=("CT", "CT")).prepare([scan(), scan()])
    assert prepared.removed == pytest.approx([-2.0, -10.0])
    assert not np.array_equal(prepared.x[0], prepared.x[1])
