"""MONAI bundles of other authors: predicted as their own workflow predicts, or refused by name; nothing of them is run."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("nibabel")

from monai_bundles import (
    ARGMAX,
    INVERT,
    LOAD,
    RANGE,
    SAVE,
    SOFTMAX,
    SPACING,
    UNET,
    WINDOW,
    compose,
    configuration,
    metadata,
    own_workflow,
    saved,
    write_bundle,
    write_scan,
)

from Agg2ExpLib.case import Case
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models import SigmoidRegions, load_model, read_card
from Agg2ExpLib.models.architectures import current_arguments
from Agg2ExpLib.models.formats.bundle_statistics import STATISTICS
from Agg2ExpLib.models.library import Library
from Agg2ExpLib.models.registry import format_of
from Agg2ExpLib.models.testing import check_model
from Agg2ExpLib.volume import Volume, read_volume

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:::monai")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "networks"
FEW = 1e-4


def step(name, **arguments):
    return {"_target_": name, "keys": arguments.pop("keys", "image"), **arguments}


NORMALISED = configuration(
    references={"spacing": [2.5, 2.5, 3.0], "classes": 3, "whole": False},
    fine=[*LOAD],
    coarse=[*LOAD, step("Spacingd", pixdim="@references#spacing", mode="bilinear")],
    preprocessing={
        "_target_": "Compose",
        "transforms": "$@fine + @stats if @references#whole else @both",
    },
    stats=[],
    both=[
        *LOAD,
        step("Spacingd", pixdim="@references#spacing", mode="bilinear"),
        step("NormalizeIntensityd", nonzero=True),
        step("ScaleIntensityd", minv=-1.0, maxv=1.0),
    ],
    network_def={
        "_target_": "SegResNet",
        "spatial_dims": 3,
        "init_filters": 8,
        "in_channels": 1,
        "out_channels": "$len(@names)",
        "blocks_down": [1, 1],
        "blocks_up": [1],
    },
    names=["background", "heart", "liver"],
    inferer={
        "_target_": "SlidingWindowInferer",
        "roi_size": 32,
        "overlap": [0.25, 0.25, 0.25],
        "mode": "gaussian",
        "padding_mode": "replicate",
    },
    postprocessing=compose(SOFTMAX, ARGMAX, {**INVERT, "nearest_interp": True}, SAVE),
)
WHOLE = configuration(
    preprocessing=compose(
        *LOAD,
        RANGE,
        step("Resized", spatial_size=[32, 24, 16], mode="trilinear"),
        step("CastToTyped", dtype="$torch.float32"),
    ),
    inferer={"_target_": "SimpleInferer"},
    postprocessing=compose(INVERT, ARGMAX, SAVE),
)
PERCENTILES = configuration(
    preprocessing=compose(
        *LOAD,
        SPACING,
        step("ThresholdIntensityd", threshold=-950, cval=-950),
        step("ClipIntensityPercentilesd", lower=1, upper=99),
        step("ScaleIntensityRangePercentilesd", lower=2, upper=98, b_min=-1, b_max=2, clip=True),
        step("CropForegroundd", source_key="image", margin=1),
        step("DivisiblePadd", k=4),
    ),
    inferer={"_target_": "SlidingWindowInferer", "roi_size": WINDOW},
)
ON_NETWORK_GRID = configuration(postprocessing=compose(SOFTMAX, ARGMAX, {**SAVE, "resample": True}))
LARGEST = configuration(
    postprocessing=compose(
        SOFTMAX, INVERT, ARGMAX, step("KeepLargestConnectedComponentd", keys="pred", applied_labels=[1, 2]), SAVE
    )
)
SITUATIONS = {
    "fixed range": (configuration(), False),
    "normalised, references, replicate": (NORMALISED, True),
    "whole volume": (WHOLE, False),
    "percentiles, cropped": (PERCENTILES, True),
    "saved from the network's grid": (ON_NETWORK_GRID, False),
    "largest component kept": (LARGEST, False),
}


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("scan") / "ct.nii.gz")


def edited(folder, change):
    path = folder / "configs/inference.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refusal(source, **options):
    with pytest.raises(InputError) as caught:
        load_model(source, **options)
    return str(caught.value)


# Equal to the bundle's own workflow ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_bundle_is_predicted_as_its_own_workflow_predicts(name, scan, tmp_path):
    config, yaml = SITUATIONS[name]
    folder = write_bundle(tmp_path / "bundle", config, yaml=yaml)
    x, logits, _ = own_workflow(folder, [scan])
    case = Case.open(scan, folder, device="cpu")
    assert np.array_equal(case.prepared.x, x)
    expected = saved(folder)
    assert len(np.unique(expected)) > 1, "a bundle that answers one class tests nothing"
    found = case.prediction()
    assert found.grid.same_as(read_volume(scan).grid)
    assert (found.voxels != expected).mean() <= FEW
    labels = logits.argmax(axis=0)
    assert (case.segmentation.labels != labels).mean() <= FEW


def test_overlapping_regions_of_two_mr_channels_are_those_of_the_workflow(tmp_path):
    regions = ("tumour core", "whole tumour")
    config = configuration(
        network_def={**UNET, "in_channels": 2, "out_channels": 2},
        preprocessing=compose(*LOAD, SPACING, step("NormalizeIntensityd", nonzero=True, channel_wise=True)),
        postprocessing=compose(
            step("Activationsd", keys="pred", sigmoid=True), INVERT, step("AsDiscreted", keys="pred", threshold=0.5)
        ),
    )
    folder = write_bundle(tmp_path / "bundle", config, metadata(regions, modality="MR", channels=("T1", "FLAIR")))
    scans = [write_scan(tmp_path / f"{seed}.nii.gz", seed=seed, low=0.0) for seed in (1, 2)]
    x, logits, answer = own_workflow(folder, scans)
    case = Case.open(scans, folder, device="cpu")
    assert case.model.card.labels == ("background", *regions)
    assert case.model.card.channels == ("T1", "FLAIR")
    assert case.model.card.decision == SigmoidRegions((0, 1))
    assert np.array_equal(case.prepared.x, x)
    for channel in (0, 1):
        assert (case.segmentation.parts[0].mask(channel + 1) != (logits[channel] > 0)).mean() <= FEW
    drawn = np.where(answer[1] > 0, 2, np.where(answer[0] > 0, 1, 0))
    assert 0 < (drawn > 0).mean() < 1
    assert (case.prediction().voxels != drawn).mean() <= FEW
    assert case.prepared.removed.tolist() == [0.0, 0.0]
    assert sum("held fixed" in note for note in case.prepared.notes) == 2


@pytest.mark.skipif(not SHARED.is_dir(), reason="the trained networks are not part of the repository")
def test_a_trained_bundle_is_predicted_as_its_makers_did():
    case = Case.open(SHARED / "scan/ct.nii.gz", SHARED / "monai_unet_bundle", device="cpu")
    expected = np.load(SHARED / "monai_unet_bundle/expected/model_grid.npz")
    assert np.array_equal(case.prepared.x[0], expected["input"])
    logits = case.segmentation.parts[0].logits
    assert np.abs(logits - expected["logits"]).max() <= 1e-3 * np.abs(expected["logits"]).max()
    labels = read_volume(SHARED / "monai_unet_bundle/expected/prediction.nii.gz", kind="labels").voxels
    assert (case.prediction().voxels != labels).mean() <= FEW


@pytest.mark.parametrize("name", ["fixed range", "normalised, references, replicate", "whole volume"])
def test_a_bundle_keeps_the_contract_of_models(name, scan, tmp_path):
    config, yaml = SITUATIONS[name]
    model = load_model(write_bundle(tmp_path / "bundle", config, yaml=yaml))
    volume = read_volume(scan)
    nothing = Volume(np.full(volume.shape, -1000.0, np.float32), volume.grid)
    check_model(model, [volume], nothing=None if "normalised" in name else [nothing])


# Nothing is there, and what is held fixed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("NormalizeIntensity", {}),
        ("NormalizeIntensity", {"nonzero": True, "channel_wise": True}),
        ("NormalizeIntensity", {"subtrahend": 3.0, "divisor": 2.0}),
        ("NormalizeIntensity", {"subtrahend": [3.0, 1.0], "divisor": [2.0, 4.0], "channel_wise": True}),
        ("ScaleIntensity", {}),
        ("ScaleIntensity", {"minv": -1.0, "maxv": 1.0, "channel_wise": True}),
        ("ScaleIntensity", {"minv": None, "maxv": None, "factor": 0.5}),
        ("ClipIntensityPercentiles", {"lower": 10, "upper": 80}),
        ("ClipIntensityPercentiles", {"lower": 10, "upper": 80, "sharpness_factor": 2.0, "channel_wise": True}),
        ("ScaleIntensityRangePercentiles", {"lower": 10, "upper": 90, "b_min": 0, "b_max": 1, "clip": True}),
        ("ScaleIntensityRangePercentiles", {"lower": 10, "upper": 90, "b_min": 0, "b_max": 2, "relative": True}),
    ],
)
def test_what_a_value_becomes_is_what_monai_makes_of_it_in_the_scan(name, arguments):
    import monai.transforms

    data = np.random.default_rng(0).normal(20, 50, (2, 6, 5, 4)).astype(np.float32)
    data[:, 0, 0, 0] = (0.0, 0.0)
    made = getattr(monai.transforms, name)(**arguments)(torch.from_numpy(data.copy())).numpy()
    for place in ((0, 0, 0), (1, 2, 3), (5, 4, 3)):
        found, _ = STATISTICS[name](arguments, data, data[(slice(None), *place)].astype(float))
        assert found == pytest.approx(made[(slice(None), *place)], rel=1e-4, abs=1e-4)


def test_air_is_taken_through_the_transforms_of_a_ct(scan, tmp_path):
    wide = {**RANGE, "a_min": -1500, "a_max": 500, "b_min": -1, "b_max": 3, "clip": False}
    folder = write_bundle(tmp_path / "bundle", configuration(preprocessing=compose(*LOAD, SPACING, wide)))
    prepared = load_model(folder).prepare([read_volume(scan)])
    assert prepared.removed == pytest.approx([0.0])
    assert prepared.display.voxels.min() == pytest.approx(-1000)
    folder = write_bundle(tmp_path / "normalised", NORMALISED, yaml=True)
    prepared = load_model(folder).prepare([read_volume(scan)])
    assert prepared.removed == pytest.approx([np.median(prepared.x[:, :2, :2, :2])], abs=1e-4)
    assert any("mean" in note and "held fixed" in note for note in prepared.notes)


# What cannot be done exactly is refused by its name ------------------------------------------------------------------

SIGMOID = step("Activationsd", keys="pred", sigmoid=True)
WITH = {
    "a transform of its own": (
        lambda c: c["preprocessing"]["transforms"].append(step("scripts.my.Windowd")),
        "scripts.my.Windowd",
    ),
    "an unknown transform": (
        lambda c: c["preprocessing"]["transforms"].append(step("GaussianSmoothd")),
        "GaussianSmoothd",
    ),
    "a Lambda": (
        lambda c: c["postprocessing"]["transforms"].append(step("Lambdad", keys="pred", func="$lambda x: x")),
        "Lambdad",
    ),
    "a scan put together of other images": (
        lambda c: c.update(
            preprocessing=compose(
                step("LoadImaged", keys=["t1", "t2"]),
                step("NormalizeIntensityd", keys=["t1", "t2"]),
                {"_target_": "ConcatItemsd", "keys": ["t1", "t2"], "name": "image"},
                step("EnsureTyped", keys="image"),
            )
        ),
        "ConcatItemsd makes 'image' of other images",
    ),
    "a scan copied from another image": (
        lambda c: c["preprocessing"]["transforms"].append(step("CopyItemsd", keys="raw", names=["image"])),
        "CopyItemsd makes 'image' of other images",
    ),
    "a scan that is not what is loaded": (
        lambda c: c["preprocessing"]["transforms"][0].update(keys="ct"),
        "loads other images than 'image'",
    ),
    "a threshold of labels": (
        lambda c: c.update(postprocessing=compose(step("AsDiscreted", keys="pred", argmax=True, threshold=1.5))),
        "a threshold of AsDiscrete beside its argmax",
    ),
    "DiNTS": (lambda c: c["network_def"].update(_target_="DiNTS"), "DiNTS"),
    "a network of its own": (lambda c: c["network_def"].update(_target_="scripts.my.UNet"), "scripts.my.UNet"),
    "another inferer": (lambda c: c["inferer"].update(_target_="SliceInferer"), "SliceInferer"),
    "another padding": (lambda c: c["inferer"].update(padding_mode="reflect"), "reflect"),
    "another overlap for each axis": (lambda c: c["inferer"].update(overlap=[0.5, 0.5, 0.25]), "overlap"),
    "a missing reference": (lambda c: c["inferer"].update(overlap="@nowhere"), "@nowhere"),
    "a circle": (lambda c: c.update(a="@b", b="@a", inferer="@a"), "circle"),
    "another threshold": (
        lambda c: c.update(postprocessing=compose(SIGMOID, step("AsDiscreted", keys="pred", threshold=0.3))),
        "0.3",
    ),
    "a network in something else": (lambda c: c.update(network="$Wrapped(@network_def)"), "Wrapped"),
    "a network in a class of its own": (
        lambda c: c.update(network={"_target_": "scripts.Wrapped", "net": "@network_def"}),
        "scripts.Wrapped",
    ),
    "other transforms undone": (
        lambda c: c.update(dataset={"_target_": "Dataset", "transform": compose(*LOAD, RANGE)}),
        "other transforms",
    ),
    "code before the evaluator": (
        lambda c: c.update(evaluator={"_target_": "SupervisedEvaluator", "prepare_batch": "$scripts.batch"}),
        "prepare_batch",
    ),
    "no decision": (
        lambda c: c.update(postprocessing=compose(SOFTMAX, INVERT, SAVE)),
        "neither argmax nor a threshold",
    ),
    "another evaluator": (lambda c: c.update(evaluator={"_target_": "EnsembleEvaluator"}), "EnsembleEvaluator"),
    "no preprocessing": (lambda c: c.pop("preprocessing"), "preprocessing"),
    "weights elsewhere": (
        lambda c: c["checkpointloader"].update(load_path="$@bundle_root + '/../model.pt'"),
        "outside",
    ),
    "weights that are not there": (
        lambda c: c["checkpointloader"].update(load_path="models/best.pt"),
        "models/best.pt",
    ),
    "an argument that changes something": (
        lambda c: c["preprocessing"]["transforms"][0].update(reverse_indexing=True),
        "reverse_indexing",
    ),
}


@pytest.mark.parametrize("name", WITH)
def test_what_is_not_done_exactly_is_refused_by_name(name, tmp_path):
    change, told = WITH[name]
    folder = write_bundle(tmp_path / "bundle", configuration())
    edited(folder, change)
    assert told in refusal(folder)


def test_a_composition_that_is_switched_off_does_nothing(scan, tmp_path):
    plain = write_bundle(tmp_path / "plain", configuration())
    off = {**compose(step("ScaleIntensityd", keys="image")), "_disabled_": True}
    switched = write_bundle(tmp_path / "switched", configuration(preprocessing=compose(*LOAD, SPACING, off, RANGE)))
    volume = read_volume(scan)
    assert np.array_equal(load_model(switched).prepare([volume]).x, load_model(plain).prepare([volume]).x)


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        *[("inferer", "cval", value) for value in (None, "x", [0])],
        *[("network_def", "in_channels", value) for value in ("1", None, 0, 10**9)],
        ("network_def", "out_channels", "3"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_file_and_key(where, key, value, tmp_path):
    folder = write_bundle(tmp_path / "bundle", configuration())
    edited(folder, lambda content: content[where].update({key: value}))
    told = refusal(folder)
    assert told.startswith(f"{folder / 'configs/inference.json'}: {where}: {key} must be")
    assert f"not {value!r}; correct it" in told


def test_a_network_of_its_own_code_runs_only_when_the_bundle_is_trusted_as_it_is(tmp_path, monkeypatch):
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "user"))
    folder = write_bundle(tmp_path / "bundle", configuration())
    plain = load_model(folder)
    edited(folder, lambda c: c["network_def"].update(_target_="scripts.my.UNet"))
    (folder / "scripts").mkdir()
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w').close()\nfrom monai.networks.nets import UNet\n"
    (folder / "scripts/__init__.py").write_text("")
    (folder / "scripts/my.py").write_text(code)
    with pytest.raises(InputError, match="agg2exp model trust"):
        load_model(folder)
    assert not ran.exists()
    Library().trust(folder)
    load_model(folder)
    found = load_model(folder)
    assert ran.exists()
    assert any("own code" in line for line in found.card.assumptions)
    assert found.card.labels == plain.card.labels
    for name, tensor in plain.network.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], tensor)
    ran.unlink()
    (folder / "scripts/my.py").write_text(code + "# changed\n")
    with pytest.raises(InputError, match="not run; only MONAI's own"):
        load_model(folder)
    assert not ran.exists()


CODE = [
    "$open(@bundle_root + '/ran', 'w').close() or 0.5",
    "$__import__('pathlib').Path('ran').touch()",
    "$(lambda: open('ran', 'w'))()",
    "$[open('ran', 'w') for _ in [1]][0]",
    "$len.__self__.open('ran', 'w')",
    "$torch.load(@bundle_root + '/models/model.pt')",
    "$torch.float32.__class__",
    "$len(open('ran', 'w').name)",
    "$'a' * 10**9",
    "%configs/metadata.json#version",
    "$@bundle_root if open('ran', 'w') else 1",
]
PLACES = {
    "an overlap": lambda c, code: c["inferer"].update(overlap=code),
    "an argument of the network": lambda c, code: c["network_def"].update(dropout=code),
    "an argument of a transform": lambda c, code: c["preprocessing"]["transforms"][4].update(a_min=code),
    "what is made": lambda c, code: c["inferer"].update(_target_=code),
    "whether it is made": lambda c, code: c["preprocessing"]["transforms"][4].update(_disabled_=code),
}


@pytest.mark.parametrize("code", CODE)
@pytest.mark.parametrize("place", PLACES)
def test_code_is_refused_and_is_not_run(place, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_bundle(tmp_path / "bundle", configuration())
    edited(folder, lambda content: PLACES[place](content, code))
    text = refusal(folder)
    assert "not run" in text or "is not" in text
    assert not list(tmp_path.rglob("ran"))


def test_a_yaml_file_makes_no_objects_and_no_endless_values(tmp_path):
    folder = write_bundle(tmp_path / "bundle", configuration(), yaml=True)
    path = folder / "configs/inference.yaml"
    path.write_text("!!python/object/apply:os.mkdir [ran]")
    assert "not valid YAML" in refusal(folder)
    path.write_text(
        "a: &a [1]\n"
        + "".join(f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefg", "bcdefgh", strict=True))
    )
    assert "more values" in refusal(folder)
    path.write_text("a: &a [*a]\n")
    assert "more values" in refusal(folder)


# Zip files -----------------------------------------------------------------------------------------------------------


def zipped(folder, path, extra=None, inside="bundle"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.rglob("*"):
            archive.write(file, Path(inside) / file.relative_to(folder))
        if extra:
            archive.writestr(*extra)
    return path


@pytest.mark.parametrize("inside", ["", "spleen_ct"])
def test_a_zip_answers_as_its_folder(inside, tmp_path):
    folder = write_bundle(tmp_path / "bundle", configuration())
    model, packed = load_model(folder), load_model(zipped(folder, tmp_path / "bundle.zip", inside=inside))
    assert packed.sha256 == model.sha256
    assert packed.source == tmp_path / "bundle.zip"
    assert packed.card.tiling == model.card.tiling


@pytest.mark.parametrize(
    "name", ["../ran.json", "/tmp/ran.json", "bundle/../../ran.json", "C:/ran.json", "..\\ran.json"]
)
def test_a_zip_with_paths_outside_is_refused(name, tmp_path):
    folder = write_bundle(tmp_path / "bundle", configuration())
    text = refusal(zipped(folder, tmp_path / "a.zip", (name, "{}")))
    assert "outside of itself" in text
    assert not list(tmp_path.rglob("ran*"))


def test_a_zip_with_a_link_is_refused(tmp_path):
    folder = write_bundle(tmp_path / "bundle", configuration())
    link = zipfile.ZipInfo("bundle/models/link.pt")
    link.external_attr = 0o120777 << 16
    assert "link" in refusal(zipped(folder, tmp_path / "a.zip", (link, "/etc/passwd")))


# What a bundle leaves out --------------------------------------------------------------------------------------------


def test_what_the_inferer_leaves_out_is_monais_default(tmp_path):
    folder = write_bundle(
        tmp_path / "bundle", configuration(inferer={"_target_": "SlidingWindowInferer", "roi_size": 32})
    )
    tiling = load_model(folder).card.tiling
    assert (tiling.window, tiling.overlap, tiling.blending) == ((32, 32, 32), 0.25, "constant")
    assert (tiling.sigma, tiling.padding) == (0.125, 0.0)


def test_a_bundle_without_postprocessing_or_modality_says_what_is_taken(tmp_path):
    about = metadata()
    del about["network_data_format"]["inputs"]["image"]["modality"]
    folder = write_bundle(tmp_path / "bundle", configuration(postprocessing=None), about)
    told = " ".join(load_model(folder).card.assumptions)
    assert "no postprocessing" in told and "modality: CT" in told


def test_a_bundle_without_inferer_asks_for_the_window(tmp_path):
    folder = write_bundle(tmp_path / "bundle", configuration(inferer=None))
    assert "--window" in refusal(folder)
    assert load_model(folder, window=(16, 16, 16)).card.tiling.window == (16, 16, 16)


def test_arguments_that_monai_no_longer_takes_are_left_out_and_said(tmp_path):
    swin = {"_target_": "SwinUNETR", "in_channels": 1, "out_channels": 3, "feature_size": 12, "use_checkpoint": False}
    folder = write_bundle(tmp_path / "bundle", configuration(network_def={**swin, "depths": [1, 1, 1, 1]}))
    edited(folder, lambda content: content["network_def"].update(img_size="@inferer#roi_size"))
    edited(folder, lambda content: content["inferer"].update(roi_size=[64, 32, 32]))
    model = load_model(folder)
    assert any("img_size" in line for line in model.card.assumptions)


def test_arguments_that_monai_calls_otherwise_today_are_taken_and_the_needed_ones_kept():
    given = {"img_size": [64, 64, 64], "pos_embed": "conv", "out_channels": 2}
    taken, told = current_arguments("UNETR", given)
    assert taken == {"img_size": [64, 64, 64], "proj_type": "conv", "out_channels": 2}
    assert told == ["pos_embed: is called proj_type in today's MONAI"]


def test_a_bundle_without_inference_configuration_needs_what_it_does_not_say(tmp_path):
    folder = write_bundle(tmp_path / "bundle", configuration())
    (folder / "configs/inference.json").unlink()
    text = refusal(folder)
    assert "inference.json" in text and "spacing, intensity_range, orientation" in text and "--spacing" in text
    # Given, but the network is a UNet, which weights alone do not tell.
    given = {"spacing": (2, 2, 3), "intensity_range": (-900, 400), "orientation": "RAS"}
    assert "not a Swin UNETR" in refusal(folder, **given)


def test_options_that_the_bundle_states_otherwise_are_refused(tmp_path):
    folder = write_bundle(tmp_path / "bundle", configuration())
    assert "its own transforms say the spacing" in refusal(folder, spacing=(1, 1, 1))
    assert "intensity_range" in refusal(folder, intensity_range=(0, 1))
    assert load_model(folder, spacing=(2.0, 2.0, 3.0)).card.spacing == (2.0, 2.0, 3.0)
    model = load_model(folder, overlap=0.25, blending="gaussian", labels=["nothing", "a", "b"])
    assert (model.card.overlap, model.card.blending, model.card.labels[1]) == (0.25, "gaussian", "a")


def test_the_card_of_a_bundle_is_read_without_its_weights(tmp_path):
    folder = write_bundle(tmp_path / "bundle", configuration())
    (folder / "models/model.pt").unlink()
    card = read_card(folder)
    assert (card.name, card.labels[2], card.window, card.spacing) == ("Small bundle", "liver", tuple(WINDOW), (2, 2, 3))


def test_two_bundles_of_the_same_weights_that_prepare_differently_are_two_models(tmp_path):
    first, second = (write_bundle(tmp_path / name, configuration()) for name in "ab")
    assert load_model(first).sha256 == load_model(second).sha256
    edited(second, lambda content: content["preprocessing"]["transforms"][4].update(a_min=-800))
    assert load_model(first).sha256 != load_model(second).sha256
    assert format_of(str(first))[0].id == "monai"
