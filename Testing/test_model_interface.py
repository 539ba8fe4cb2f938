"""Any network in: z-scored, several channels, overlapping regions, several parts; and the contract that loaders keep."""

import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from Agg2ExpLib.case import Case
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation import explain
from Agg2ExpLib.export import view
from Agg2ExpLib.methods import Gradient, IntegratedGradients, KernelSHAP, Occlusion, SmoothGrad
from Agg2ExpLib.models import Part, Prepared, SigmoidRegions, Softmax, Tiling, from_module, load_model
from Agg2ExpLib.models.registry import Format, format_of, formats, register
from Agg2ExpLib.models.testing import check_model
from Agg2ExpLib.request import Request, request_of
from Agg2ExpLib.volume import Grid, Volume

torch.set_num_threads(1)
SHAPE = (14, 12, 10)
GRID = Grid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))
#: Of the z-scored network: what air (-1000 HU) is in network units.
MEAN, SPREAD = 350.0, 500.0
AIR = (-1000.0 - MEAN) / SPREAD


class Curved(torch.nn.Module):
    """Each voxel's logits are its own curved function, mixed with its neighbours."""

    def __init__(self, channels=1, classes=3):
        super().__init__()
        torch.manual_seed(3)
        self.mix = torch.nn.Conv3d(channels, classes, 3, padding=1)

    def forward(self, x):
        return torch.tanh(self.mix(x)) + 0.3 * self.mix(x)


class Additive(torch.nn.Module):
    """Each voxel's logits are its own curved function: every game is additive."""

    def forward(self, x):
        return torch.cat([torch.sin(x), 0.2 * x**2 + 0.1, torch.exp(-0.3 * x) - 2.0], dim=1)


def scan(seed=0, shape=SHAPE):
    rng = np.random.default_rng(seed)
    hu = np.full(shape, -1000.0)
    hu[2:-2, 2:-2, 2:-2] = rng.normal(50, 300, tuple(n - 4 for n in shape))
    return Volume(hu.astype(np.float32), Grid(shape, GRID.affine))


def z_scored(images):
    return np.stack([(image.voxels - MEAN) / SPREAD for image in images])


def model_of(network, *, window=(8, 8, 8), tiling=None, **options):
    options = {"classes": ["background", "one", "two"], "prepare": z_scored, "removed": AIR, **options}
    return from_module(network, tiling=tiling or Tiling(window), **options)


def opened(network, **options):
    return Case.open(scan(), model_of(network, **options), device="cpu", precision="float64")


def undivided(case, x):
    """Return the stitched logits [K, i, j, k] of a scan in the plainest way, differentiable: pad, run, blend, cut."""
    (stitched,) = case.stitched
    windows = stitched.windows
    padded = windows.pad(x, stitched.fill)
    total = sum_of = None
    for index in range(len(windows)):
        where = (slice(None), *windows.slices(index))
        logits = stitched.network(padded[where][None])[0]
        if total is None:
            total = torch.zeros((len(logits), *windows.padded_shape), dtype=x.dtype)
            sum_of = torch.zeros(windows.padded_shape, dtype=x.dtype)
        total[where] = total[where] + logits * windows.weight.double()
        sum_of[windows.slices(index)] += windows.weight.double()
    return windows.unpad(total / sum_of)


def value(case, x, index):
    return (undivided(case, x)[case.objectives([index])[0].channel][mask(case, index)]).sum()


def mask(case, index):
    return torch.from_numpy(case.segmentation.parts[0].mask(index))


def present(case):
    return [aim.class_index for aim in case.objectives(range(len(case.labels))) if aim.voxels]


def attributions(case, method, **options):
    """Return those of every class of the prediction; a loop over none would say nothing."""
    found = list(case.attribute(method, present(case), **options))
    assert len(found) == len(present(case)) > 1
    return found


TILINGS = [
    Tiling((8, 8, 8)),
    Tiling((8, 8, 8), step=0.5, blending="nnunet"),
    Tiling((16, 8, 16), blending="constant"),
    Tiling((16, 16, 16), padding="edge"),
    Tiling((16, 16, 16), padding=0.0),
    Tiling((20, 16, 8), padding="edge", overlap=0.5),
]


@pytest.mark.parametrize("tiling", TILINGS, ids=lambda one: f"{one.window}-{one.step}-{one.blending}-{one.padding}")
def test_gradients_of_a_z_scored_network_are_autograds_through_the_undivided_prediction(tiling):
    case = opened(Curved(), tiling=tiling)
    assert present(case)
    for one in attributions(case, Gradient()):
        x = case.stitched[0].x.clone().requires_grad_(True)
        (expected,) = torch.autograd.grad(value(case, x, one.class_index), x)
        found = one.full(case.prepared.shape)
        assert np.abs(found - expected[0].numpy()).max() < 1e-10 * float(expected.abs().max())


@pytest.mark.parametrize("tiling", [TILINGS[0], TILINGS[3], TILINGS[4]], ids=["inside", "edge", "zero padding"])
def test_integrated_gradients_begin_at_air_of_minus_2_7_and_are_complete(tiling):
    case = opened(Curved(), tiling=tiling)
    assert pytest.approx(-2.7) == AIR
    for one in attributions(case, IntegratedGradients(samples=300, path="uniform")):
        nothing = torch.full_like(case.stitched[0].x, AIR)
        assert one.baseline_value == pytest.approx(float(value(case, nothing, one.class_index)))
        assert one.completeness_gap < 1e-4
        # What is air already is worth nothing.
        assert not one.full(SHAPE)[0].any()


@pytest.mark.parametrize("scope", ["window", "scan"])
def test_shapley_values_of_a_z_scored_network_have_their_closed_form(scope):
    case = opened(Additive())
    method = KernelSHAP(supervoxels="cubes", supervoxel_count=8, samples=60, scope=scope)
    division = case.divide(method)
    for one in attributions(case, method, supervoxels=division):
        whole = float(value(case, case.stitched[0].x, one.class_index))
        for number in range(1, len(division.names) + 1):
            gone = torch.where(torch.from_numpy(division.labels == number), AIR, case.stitched[0].x)
            expected = whole - float(value(case, gone, one.class_index))
            assert one.supervoxels.values[number - 1] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_efficiency_of_kernelshap_and_occlusion_hold_with_minus_2_7_for_nothing():
    case = opened(Curved())
    method = KernelSHAP(supervoxels="cubes", supervoxel_count=6, estimator="exact")
    division = case.divide(method)
    nothing = torch.full_like(case.stitched[0].x, AIR)
    for one in attributions(case, method, supervoxels=division):
        assert one.supervoxels.empty == pytest.approx(float(value(case, nothing, one.class_index)))
        assert one.supervoxels.values.sum() == pytest.approx(one.supervoxels.full - one.supervoxels.empty)
    for one in attributions(case, Occlusion(), supervoxels=division):
        gone = torch.where(torch.from_numpy(division.labels == 1), AIR, case.stitched[0].x)
        lost = one.supervoxels.full - float(value(case, gone, one.class_index))
        assert one.supervoxels.values[0] == pytest.approx(lost)


def test_a_case_reads_the_users_own_supervoxels(tmp_path):
    from Agg2ExpLib.volume import write_volume

    case = opened(Curved())
    halves = np.ones(SHAPE, np.uint8)
    halves[SHAPE[0] // 2 :] = 2
    write_volume(Volume(halves, GRID), tmp_path / "halves.nii.gz")
    method = KernelSHAP(supervoxels=str(tmp_path / "halves.nii.gz"), estimator="exact")
    found = list(case.attribute(method, present(case)))
    assert found
    assert all(one.supervoxels.names == ("supervoxel 1", "supervoxel 2") for one in found)


def test_a_region_is_replaced_by_air_as_the_model_knows_it():
    case = opened(Curved())
    inside = np.zeros(SHAPE, dtype=bool)
    inside[4:9, 4:8, 3:7] = True
    after = case.what_if(inside, "air")
    gone = torch.where(torch.from_numpy(inside), AIR, case.stitched[0].x)
    assert np.array_equal(after.labels, undivided(case, gone).argmax(0).numpy())


def test_several_channels_have_their_own_attributions_and_add_up():
    first, second = scan(0), scan(1)
    model = model_of(Curved(channels=2), channels=["T1", "T2"], removed=[AIR, 0.5])
    case = Case.open([first, second], model, device="cpu", precision="float64")
    for one in attributions(case, Gradient()):
        x = case.stitched[0].x.clone().requires_grad_(True)
        (expected,) = torch.autograd.grad(value(case, x, one.class_index), x)
        found = np.zeros((2, *SHAPE))
        found[(slice(None), *one.box)] = one.channels
        assert np.allclose(found, expected.numpy(), rtol=1e-9, atol=1e-12)
        mass = case.rois().row(one.channels, one.box)["mass"]
        strength = np.abs(expected.numpy()).sum(axis=0)
        plain = [strength[case.segmentation.labels == index].sum() / strength.sum() for index in range(3)]
        assert mass == pytest.approx(plain)
    for one in attributions(case, IntegratedGradients(samples=200, path="uniform")):
        assert one.completeness_gap < 1e-3
    with pytest.raises(InputError, match=r"takes 2 channels \(T1, T2\), but 1 volume was given"):
        Case.open(first, model, device="cpu")
    moved = Volume(second.voxels, Grid(SHAPE, np.diag([3.0, 2.0, 2.0, 1.0])))
    with pytest.raises(InputError, match="channel T2 lies on another grid"):
        Case.open([first, moved], model, device="cpu")


def test_overlapping_regions_are_masks_of_their_own_and_background_has_no_logit():
    network = Curved(classes=3)
    model = model_of(network, classes=["background", "whole", "part", "core"], decision=SigmoidRegions((0, 1, 2)))
    case = Case.open(scan(), model, device="cpu", precision="float64")
    logits = undivided(case, case.stitched[0].x).detach().numpy()
    for index in (1, 2, 3):
        assert np.array_equal(case.segmentation.parts[0].mask(index), logits[index - 1] > 0)
    painted = np.zeros(SHAPE, dtype=int)
    for channel in range(3):
        painted[logits[channel] > 0] = channel + 1
    assert np.array_equal(case.segmentation.labels, painted)
    for one in case.attribute(Gradient(), ["whole", "core"]):
        x = case.stitched[0].x.clone().requires_grad_(True)
        (expected,) = torch.autograd.grad(value(case, x, one.class_index), x)
        assert np.allclose(one.full(SHAPE), expected[0].numpy(), rtol=1e-9, atol=1e-12)
    with pytest.raises(InputError, match="background has no logit of its own"):
        case.objectives(["background"])
    row = case.rois().row(np.ones(SHAPE), (slice(0, 14), slice(0, 12), slice(0, 10)))
    assert row["mass"][1] == pytest.approx((logits[0] > 0).mean())


class TwoParts:
    """A model of two networks, as TotalSegmentator's: each has a background of its own, and the later one wins."""

    def __init__(self):
        self.inner = model_of(Curved(classes=3), classes=["background", "one", "two", "three", "four"])
        torch.manual_seed(8)
        self.networks = [Curved(classes=3).eval().requires_grad_(False), Additive()]
        self.networks[0].mix.bias += 0.2

    sha256, source = "2" * 64, ""

    @property
    def card(self):
        return self.inner.card

    @property
    def parts(self):
        build = [lambda device, dtype, net=net: net.to(device=device, dtype=dtype) for net in self.networks]
        return (Part((0, 1, 2), build[0], name="first"), Part((0, 3, 4), build[1], name="second"))

    def prepare(self, images):
        return self.inner.prepare(images)


def test_parts_are_merged_and_each_class_is_explained_by_its_own_part(tmp_path):
    case = Case.open(scan(), TwoParts(), device="cpu", precision="float64")
    first, second = case.segmentation.parts
    assert np.array_equal(case.segmentation.labels, np.where(second.labels > 0, second.labels, first.labels))
    found = {one.class_index: one for one in case.attribute(Gradient(), [1, 2, 3, 4])}
    assert {1, 2} & set(found)
    assert {3, 4} & set(found)
    for index, one in found.items():
        part = 0 if index < 3 else 1
        x = case.stitched[part].x.clone().requires_grad_(True)
        single = Case(case.model, case.prepared, case.compute)
        single.__dict__["stitched"] = (case.stitched[part],)
        channel = case.segmentation.parts[part].channel(index)
        inside = torch.from_numpy(case.segmentation.parts[part].mask(index))
        (expected,) = torch.autograd.grad(undivided(single, x)[channel][inside].sum(), x)
        assert np.allclose(one.full(SHAPE), expected[0].numpy(), rtol=1e-9, atol=1e-12)
    table = case.importance(found.values())
    assert table.matrix("mass").sum(axis=1) == pytest.approx(1.0)
    written = explain(scan(), TwoParts(), tmp_path / "out", request_of("gradient", device="cpu"))
    assert set(written.explained) == {case.labels[index] for index in found}


@pytest.mark.parametrize("network", [Curved(), Additive()], ids=["curved", "additive"])
def test_models_of_modules_keep_the_contract(network):
    air = Volume(np.full(SHAPE, -1000.0, np.float32), GRID)
    check_model(model_of(network), [scan()], nothing=[air])
    check_model(TwoParts(), [scan()])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"removed": 0.0}, "nothing is prepared to -2.7, but removed is 0"),
        ({"network": torch.nn.Sequential(Curved(), torch.nn.Dropout(0.5))}, None),
        ({"classes": ["background", "one", "two", "three"]}, r"answers \(1, 3, 8, 8, 8\), expected \(1, 4, 8, 8, 8\)"),
    ],
)
def test_a_model_that_breaks_the_contract_is_told_how(change, words):
    options = dict(change)
    model = model_of(options.pop("network", Curved()), **options)
    air = Volume(np.full(SHAPE, -1000.0, np.float32), GRID)
    if words is None:
        check_model(model, [scan()], nothing=[air])
        model.network.train()
    with pytest.raises(AssertionError, match=words or "differently"):
        check_model(model, [scan()], nothing=[air])


def test_explaining_in_memory_gives_the_folders_numbers(tmp_path):
    model, request = model_of(Curved()), Request(SmoothGrad(samples=2, seed=4), classes=("one", "two"))
    box = np.zeros(SHAPE, np.uint8)
    box[3:8, 3:8, 3:8] = 1
    regions = {"box": Volume(box, GRID)}
    found = explain(scan(), model, request=request, regions=regions)
    written = explain(scan(), model, tmp_path / "out", request, regions=regions)
    for measure in ("mass", "enrichment", "voxels"):
        assert np.array_equal(found.importance.matrix(measure), written.importance.matrix(measure), equal_nan=True)
    name = written.explained[0]
    assert np.array_equal(found.attribution(name).voxels, written.attribution(name).voxels)
    assert len(repr(found)) < 120
    assert "<table>" in found._repr_html_()
    assert "data:image/png;base64" in found._repr_html_()
    if find_spec("ipyniivue"):
        seen = [[volume.data for volume in view(one, name).volumes] for one in (found, written)]
        assert seen[0][1] == seen[1][1]  # The attribution; a folder's scan is rounded.
    frame = pytest.importorskip("pandas") and found.to_frame()
    assert list(frame.columns)[:3] == ["class", "roi", "mass"]
    assert len(frame) == 2 * 4
    assert tuple(found.metatensor(name).shape) == (1, *SHAPE)


def test_metatensors_and_nibabel_images_are_scans_too():
    from monai.data import MetaTensor

    nibabel = pytest.importorskip("nibabel")
    model, volume = model_of(Curved()), scan()
    plain = Case.open(volume, model, device="cpu").segmentation.labels
    tensor = MetaTensor(torch.from_numpy(volume.voxels)[None], affine=torch.from_numpy(volume.affine.copy()))
    image = nibabel.Nifti1Image(volume.voxels, volume.affine)
    for other in (tensor, image):
        assert np.array_equal(Case.open(other, model, device="cpu").segmentation.labels, plain)
    with pytest.raises(InputError, match="a scan cannot be a ndarray"):
        Case.open(volume.voxels, model, device="cpu")


def test_a_module_needs_what_stands_for_nothing():
    with pytest.raises(InputError, match="say what stands for nothing"):
        from_module(Curved(), classes=["a", "b", "c"], tiling=Tiling((8, 8, 8)))
    with pytest.raises(InputError, match="needs a tiling with a window"):
        from_module(Curved(), classes=["a", "b", "c"], tiling=Tiling(None), removed=0.0)
    model = model_of(Curved(), prepare=lambda images: np.zeros((1, 2, 2, 2)))
    with pytest.raises(InputError, match=r"answers an array of shape \(1, 2, 2, 2\), expected \(1, 14, 12, 10\)"):
        Case.open(scan(), model, device="cpu")


def test_the_identity_of_a_module_is_its_weights():
    first, same, other = Curved(), Curved(), Curved()
    with torch.no_grad():
        other.mix.bias += 1.0
    assert model_of(first).sha256 == model_of(same).sha256 != model_of(other).sha256


def test_one_registered_format_is_enough_for_every_way_in(tmp_path, capsys):
    from Agg2ExpLib.cli import main
    from Agg2ExpLib.models import registry
    from Agg2ExpLib.volume import write_volume

    made = register(Format("toy", "toy network", lambda s: s.endswith(".toy"), lambda s, options: model_of(Curved())))
    try:
        assert format_of("a.toy")[0] is made
        assert format_of("toy:anything") == (made, "anything")
        assert list(formats())[-2:] == ["folder", "checkpoint"]
        (tmp_path / "net.toy").touch()
        assert load_model(tmp_path / "net.toy").card.labels == ("background", "one", "two")
        write_volume(scan(), tmp_path / "ct.nii.gz")
        words = ["explain", tmp_path / "ct.nii.gz", "--model", tmp_path / "net.toy", "--out", tmp_path / "out",
                 "--method", "gradient", "--device", "cpu", "--progress", "none"]  # fmt: skip
        assert main([str(word) for word in words]) == 0
        assert "one" in capsys.readouterr().out
        case = [str(word) for word in words if word != "explain"]
        assert main(["estimate", case[0], "--model", str(tmp_path / "net.toy"), "--device", "cpu"]) == 0
    finally:
        del registry._FORMATS["toy"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window": (8, 8)}, "three sides"),
        ({"overlap": 0.95}, "must be 0 to 0.9"),
        ({"step": 0.0}, "above 0 and at most 1"),
        ({"blending": "cosy"}, "unknown blending"),
        ({"padding": "mirror"}, "unknown padding"),
        ({"mirror_axes": (3,)}, "must be among 0, 1 and 2"),
        ({"sigma": math.inf}, "must be positive"),
    ],
)
def test_a_tiling_that_cannot_be_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        Tiling(**{"window": (8, 8, 8), **change})


def test_a_prepared_scan_checks_itself():
    volume = Volume(np.zeros(SHAPE), GRID)
    good = {"x": np.zeros((1, *SHAPE)), "grid": GRID, "removed": [0.0], "display": volume, "scan_grid": GRID}
    assert not Prepared(**good).x.flags.writeable
    for change, words in (
        ({"x": np.zeros(SHAPE)}, "needs \\(channels"),
        ({"removed": [0.0, 1.0]}, "as many values that stand for nothing"),
        ({"x": np.full((1, *SHAPE), np.nan)}, "not finite"),
    ):
        with pytest.raises(InputError, match=words):
            Prepared(**{**good, **change})
    assert isinstance(load_model("thorax-phantom").card.decision, Softmax)
