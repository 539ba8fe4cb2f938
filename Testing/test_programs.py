"""Networks as programs: TorchScript, torch.export, ONNX. What they do not say is asked for; probabilities are noticed."""

import json
import struct
import warnings

import numpy as np
import pytest
import torch

from Agg2ExpLib.case import Case
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation import explain
from Agg2ExpLib.methods import Gradient, IntegratedGradients, Occlusion
from Agg2ExpLib.models import load_model
from Agg2ExpLib.models.interface import SigmoidRegions
from Agg2ExpLib.models.library import Library
from Agg2ExpLib.models.testing import check_model
from Agg2ExpLib.repeating import read_repeat
from Agg2ExpLib.request import request_of
from Agg2ExpLib.volume import Grid, Volume, write_volume

torch.set_num_threads(1)
WINDOW = (16, 16, 16)
SAID = {
    "labels": ("background", "heart", "liver"),
    "channels": ("CT",),
    "spacing": (2.0, 2.0, 2.0),
    "orientation": "RAS",
    "intensity_range": (-1000.0, 1000.0),
    "window": WINDOW,
}


class Net(torch.nn.Module):
    def __init__(self, end="", out=3, channels=1):
        super().__init__()
        torch.manual_seed(1)
        self.conv = torch.nn.Conv3d(channels, out, 3, padding=1)
        self.last = {"softmax": torch.nn.Softmax(dim=1), "sigmoid": torch.nn.Sigmoid()}.get(end, torch.nn.Identity())

    def plain(self, x):
        return self.last(6 * torch.tanh(self.conv(x)))

    def forward(self, x):
        return self.plain(x)


class Halved(Net):
    """A softmax that is not the last thing."""

    def forward(self, x):
        return self.plain(x) * 0.5 + 0.5 * self.plain(x)


def scan(shape=(18, 16, 20), channels=1):
    rng = np.random.default_rng(0)
    grid = Grid(shape, np.diag([2.0, 2.0, 2.0, 1.0]))
    found = [Volume(rng.normal(0, 400, shape).astype(np.float32), grid) for _ in range(channels)]
    return found if channels > 1 else found[0]


def saved(network, path, kind="trace", trusted=True):
    x = torch.rand(1, network.conv.in_channels, *WINDOW)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "export":
            torch.export.save(torch.export.export(network.eval(), (x,)), path)
        else:
            made = torch.jit.script(network.eval()) if kind == "script" else torch.jit.trace(network.eval(), x)
            torch.jit.save(made, path)
    if trusted:
        Library().trust(path)
    return path


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Keep the user's own list of models out of the way."""
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "user"))


def logits_of(model, x):
    (part,) = model.parts
    return part.build(torch.device("cpu"), torch.float32)(x)


@pytest.mark.parametrize(("kind", "name"), [("trace", "a.pt"), ("script", "a.ts"), ("export", "a.pt2")])
def test_a_program_answers_as_its_network_and_keeps_the_contract(kind, name, tmp_path):
    network = Net()
    model = load_model(saved(network, tmp_path / name, kind), **SAID)
    x = torch.rand(2, 1, *WINDOW)
    assert torch.allclose(logits_of(model, x), network(x), atol=1e-5)
    check_model(model, [scan()], nothing=[Volume(np.full((18, 16, 20), -1000.0, np.float32), scan().grid)])


@pytest.mark.parametrize("end", ["softmax", "sigmoid"])
@pytest.mark.parametrize(("kind", "name"), [("trace", "a.pt"), ("script", "a.ts"), ("export", "a.pt2")])
def test_a_last_softmax_or_sigmoid_is_left_out_and_said(kind, name, end, tmp_path):
    said = SAID if end == "softmax" else {**SAID, "labels": ("background", "a", "b", "c")}
    model = load_model(saved(Net(end), tmp_path / name, kind), **said)
    x = torch.rand(1, 1, *WINDOW)
    assert torch.allclose(logits_of(model, x), Net()(x), atol=1e-5)
    assert any("left out" in line and end in line for line in model.card.assumptions)
    assert isinstance(model.card.decision, SigmoidRegions) == (end == "sigmoid")


def test_probabilities_from_deep_inside_are_explained_as_logarithms_and_said(tmp_path):
    model = load_model(saved(Halved("softmax"), tmp_path / "a.pt"), **SAID)
    x = torch.rand(1, 1, *WINDOW)
    assert torch.allclose(logits_of(model, x), Net()(x).log_softmax(dim=1), atol=1e-5)
    assert any("sum to 1" in line for line in model.card.assumptions)


def test_gradients_of_a_program_are_autograds_and_integrated_gradients_are_complete(tmp_path):
    model = load_model(saved(Net("softmax"), tmp_path / "a.pt"), **SAID)
    case = Case.open(scan((16, 16, 16)), model, device="cpu", precision="float64")
    (one,) = case.attribute(Gradient(), ["heart"])
    x = case.stitched[0].x.clone().requires_grad_(True)
    logits = Net().double()(x[None])[0]
    mask = torch.from_numpy(case.segmentation.labels == 1)
    (expected,) = torch.autograd.grad(logits[1][mask].sum(), x)
    assert np.abs(one.full((16, 16, 16)) - expected[0].numpy()).max() < 1e-4 * float(expected.abs().max())
    (one,) = case.attribute(IntegratedGradients(samples=40), ["heart"])
    assert one.completeness_gap < 1e-3


def test_a_program_is_read_only_when_it_is_trusted_as_it_is(tmp_path):
    path = saved(Net(), tmp_path / "a.pt", trusted=False)
    with pytest.raises(InputError, match="agg2exp model trust"):
        load_model(path, **SAID)
    Library().trust(path)
    load_model(path, **SAID)
    saved(Net(out=4), path, trusted=False)
    with pytest.raises(InputError, match="not trusted"):
        load_model(path, **SAID)


@pytest.mark.parametrize("name", ["labels", "channels", "spacing", "orientation", "intensity_range", "window"])
def test_what_a_program_does_not_say_is_asked_for_by_name(name, tmp_path):
    path = saved(Net(), tmp_path / "a.pt")
    with pytest.raises(InputError, match="--" + name.replace("_", "-")):
        load_model(path, **{key: value for key, value in SAID.items() if key != name})


def test_a_torch_export_says_its_window_and_metadata_in_a_script_its_labels(tmp_path):
    path = saved(Net(), tmp_path / "a.pt2", "export")
    without = {key: value for key, value in SAID.items() if key != "window"}
    assert load_model(path, **without).card.window == WINDOW
    with pytest.raises(InputError, match="16 x 16 x 16 voxels only"):
        load_model(path, **{**SAID, "window": (32, 32, 32)})
    metadata = {"network_data_format": {"outputs": {"pred": {"channel_def": {"0": "bg", "1": "a", "2": "b"}}}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.trace(Net().eval(), torch.rand(1, 1, *WINDOW))
        torch.jit.save(made, tmp_path / "b.ts", _extra_files={"metadata.json": json.dumps(metadata)})
    Library().trust(tmp_path / "b.ts")
    without = {key: value for key, value in SAID.items() if key != "labels"}
    assert load_model(tmp_path / "b.ts", **without).card.labels == ("bg", "a", "b")


class Finished(Net):
    def forward(self, x):
        return self.plain(x).argmax(dim=1, keepdim=True)


class Pooled(Net):
    def forward(self, x):
        return self.plain(x)[..., ::2]


class Restless(Net):
    def forward(self, x):
        return self.plain(x) + torch.rand(1)


class OneHot(Net):
    def forward(self, x):
        found = self.plain(x)
        return (found == found.max(dim=1, keepdim=True)[0]).to(x)


class Positive(Net):
    """Its logits are small for small intensities, and never negative."""

    def forward(self, x):
        return torch.relu(self.conv(x))


class Logarithms(Net):
    def forward(self, x):
        return torch.log_softmax(self.plain(x), dim=1)


class Twofold(Net):
    def forward(self, x):
        return self.plain(x), x


@pytest.mark.parametrize(
    ("network", "words"),
    [(Positive(), None), (Logarithms(), "ends with a log-softmax"), (Twofold(), "2 outputs; the first is explained")],
)
def test_answers_that_are_no_probabilities_stay_as_they_are_and_what_is_taken_is_said(network, words, tmp_path):
    model = load_model(saved(network, tmp_path / "a.ts"), **SAID)
    x = torch.rand(1, 1, *WINDOW)
    answer = network(x)
    assert torch.equal(logits_of(model, x), answer[0] if isinstance(answer, tuple) else answer)
    told = [line for line in model.card.assumptions if line.startswith("answer")]
    assert len(told) == (words is not None)
    assert words is None or words in told[0]


@pytest.mark.parametrize("shapes", [[(2, 1, *WINDOW)], [(1, 1, *WINDOW)] * 2])
def test_a_torch_export_of_other_inputs_is_refused_with_its_shapes(shapes, tmp_path):
    class Sum(Net):
        def forward(self, *several):
            return self.plain(sum(several))

    path = tmp_path / "a.pt2"
    torch.export.save(torch.export.export(Sum().eval(), tuple(torch.rand(shape) for shape in shapes)), path)
    Library().trust(path)
    with pytest.raises(InputError, match=r"takes \(.*one batch of volumes"):
        load_model(path, **SAID)


@pytest.mark.parametrize(
    ("network", "change", "words"),
    [
        (Finished(), {}, "finished label map"),
        (OneHot(), {}, "finished label map"),
        (Pooled(), {}, "for each class and voxel"),
        (Restless(), {}, "twice differently"),
        (Net(out=5), {}, "answers 5 classes, but 3 labels"),
        (Net(), {"channels": ("T1", "T2")}, "does not run on 2 x 16"),
        (Net(), {"intensities": "z-score"}, "say the same thing"),
        (Net(), {"folds": ("0",)}, "--folds"),
    ],
)
def test_what_cannot_be_explained_is_refused_by_name(network, change, words, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = saved(network, tmp_path / "a.ts", "script")
    with pytest.raises(InputError, match=words):
        load_model(path, **{**SAID, **change})


def test_a_damaged_program_is_refused(tmp_path):
    path = saved(Net(), tmp_path / "a.pt", trusted=False)
    content = bytearray(path.read_bytes())
    where = content.find(b"constants.pkl")
    content[200:where] = bytes(where - 200)
    path.write_bytes(content)
    Library().trust(path)
    with pytest.raises(InputError, match=r"cannot read|damaged|not a PyTorch|neither"):
        load_model(path, **SAID)


def test_a_gradient_that_cannot_be_is_refused_by_the_methods_name(tmp_path):
    class Cut(Net):
        def forward(self, x):
            return self.plain(x.detach())

    path = saved(Cut(), tmp_path / "a.pt2", "export")
    model = load_model(path, **SAID)
    with pytest.raises(InputError, match="gradient needs one"):
        explain(scan(), model, request=request_of("gradient", device="cpu"))


@pytest.mark.parametrize(
    ("intensities", "expected"),
    [
        ("unchanged", lambda v: v),
        ("z-score", lambda v: (v - v.mean()) / v.std()),
        ("min-max", lambda v: (v - v.min()) / (v.max() - v.min())),
        ("percentiles:10,90", lambda v: np.clip((v - np.percentile(v, 10)) / np.ptp(np.percentile(v, [10, 90])), 0, 1)),
    ],
)
def test_intensities_of_each_channel_are_as_said_and_statistics_are_told(intensities, expected, tmp_path):
    said = {key: value for key, value in SAID.items() if key != "intensity_range"}
    path = saved(Net(channels=2), tmp_path / "a.pt")
    model = load_model(path, **{**said, "channels": ("T1", "T2"), "intensities": intensities})
    volumes = scan(channels=2)
    prepared = model.prepare(volumes)
    for channel, volume in zip(prepared.x, volumes, strict=True):
        assert np.allclose(channel, expected(volume.voxels), atol=1e-4)
    assert bool(prepared.notes) == (intensities != "unchanged")


def test_a_program_explains_a_whole_scan_at_once_and_repeats(tmp_path):
    path = saved(Net(), tmp_path / "a.pt")
    model = load_model(path, **{**SAID, "window": "scan", "spacing": "scan"})
    write_volume(scan(), tmp_path / "ct.nii.gz")
    found = explain(tmp_path / "ct.nii.gz", model, tmp_path / "out", request_of("gradient", device="cpu"))
    again = read_repeat(tmp_path / "out").run(tmp_path / "again")
    for measure, values in found.importance.values.items():
        assert np.allclose(again.importance.values[measure], values, equal_nan=True)


def message(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def whole(number, value):
    return varint(number << 3) + varint(value)


def onnx_file(path, network):
    """Write a convolution with a softmax as ONNX: a protocol buffer, by hand."""
    weight, bias = network.conv.weight.detach().numpy(), network.conv.bias.detach().numpy()

    def tensor(name, values):
        dims = b"".join(whole(1, side) for side in values.shape)
        return message(5, dims + whole(2, 1) + message(8, name) + message(9, values.astype("<f4").tobytes()))

    def value(number, name, shape):
        dims = b"".join(message(1, whole(1, side) if isinstance(side, int) else message(2, side)) for side in shape)
        return message(number, message(1, name) + message(2, message(1, whole(1, 1) + message(2, dims))))

    def node(kind, inputs, output, *attributes):
        named = b"".join(message(1, name) for name in inputs)
        return message(1, named + message(2, output) + message(4, kind) + b"".join(attributes))

    pads = message(5, message(1, b"pads") + b"".join(whole(8, 1) for _ in range(6)) + whole(20, 7))
    axis = message(5, message(1, b"axis") + whole(3, 1) + whole(20, 2))
    six = np.array([6.0], dtype=np.float32)
    graph = (
        node(b"Conv", (b"x", b"w", b"b"), b"c", pads)
        + node(b"Tanh", (b"c",), b"t")
        + node(b"Mul", (b"t", b"six"), b"l")
        + node(b"Softmax", (b"l",), b"p", axis)
        + message(2, b"net")
        + tensor(b"w", weight)
        + tensor(b"b", bias)
        + tensor(b"six", six)
        + value(11, b"x", (b"n", 1, *WINDOW))
        + value(12, b"p", (b"n", 3, *WINDOW))
    )
    path.write_bytes(whole(1, 8) + message(7, graph) + message(8, message(1, b"") + whole(2, 17)))
    return path


def test_an_onnx_file_is_explained_by_methods_without_gradient(tmp_path):
    pytest.importorskip("onnxruntime")
    assert struct.calcsize("<f") == 4
    path = onnx_file(tmp_path / "a.onnx", Net())
    model = load_model(path, **{key: value for key, value in SAID.items() if key != "window"})
    x = torch.rand(1, 1, *WINDOW)
    assert torch.allclose(logits_of(model, x), Net()(x).log_softmax(dim=1), atol=1e-4)
    with pytest.raises(InputError, match="kernelshap or occlusion"):
        explain(scan(), model, request=request_of("smoothgrad", device="cpu"))
    as_torch = load_model(saved(Halved("softmax"), tmp_path / "a.pt"), **SAID)
    rows = [
        [one.channels for one in Case.open(scan(), one, device="cpu").attribute(Occlusion(), ["heart"])]
        for one in (model, as_torch)
    ]
    assert np.allclose(rows[0], rows[1], rtol=1e-3, atol=1e-2)
    check_model(model, [scan()])


def test_a_file_that_is_no_onnx_is_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(b"no protocol buffer")
    with pytest.raises(InputError, match="cannot be read as an ONNX file"):
        load_model(tmp_path / "a.onnx", **SAID)
