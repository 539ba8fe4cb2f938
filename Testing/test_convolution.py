"""Convolutions on oneDNN's kernel answer what torch's own do: values, gradients of first and second order, tangents."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from Agg2ExpLib.case.segmentation import stitched_logits  # noqa: E402
from Agg2ExpLib.case.stitched import StitchedNetwork  # noqa: E402
from Agg2ExpLib.case.windows import Windows  # noqa: E402
from Agg2ExpLib.convolution import FastConvolutions, _Convolution  # noqa: E402

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch is built without oneDNN")


def _layer(channels=(3, 5), kernel=3, **options):
    torch.manual_seed(1)
    return torch.nn.Conv3d(*channels, kernel, **options).eval().requires_grad_(False)


def _tried(monkeypatch):
    """Count what takes the fast way."""
    calls = []
    apply = _Convolution.apply
    monkeypatch.setattr(_Convolution, "apply", lambda *given: calls.append(given[0].shape) or apply(*given))
    return calls


def _both(layer, x, direction):
    """Value and gradient, of torch and of ours."""
    found = []
    for fast in (False, True):
        part = x.clone().requires_grad_(True)
        if fast:
            with FastConvolutions():
                y = layer(part)
        else:
            y = layer(part)
        # Twice, as for two classes.
        first, second = (
            torch.autograd.grad(y, part, scale * direction[: y.numel()].reshape(y.shape), retain_graph=True)[0]
            for scale in (1, -2)
        )
        found.append((y.detach(), first, second))
    return found


@needs_onednn
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"padding": 0},
        {"padding": (2, 1, 0)},
        {"kernel": 1},
        {"kernel": (1, 3, 3), "padding": (0, 1, 1), "bias": False},
        {"kernel": (3, 2, 1), "padding": (1, 0, 0)},
        {"dilation": 2, "padding": 2},
        {"dilation": (1, 2, 1), "padding": (1, 4, 0)},
        {"channels": (1, 12), "padding": 1},
        {"channels": (12, 1), "padding": 1},
        {"channels": (1, 4), "kernel": (3, 5, 1), "padding": (2, 0, 0)},
        {"channels": (1, 4), "dilation": 2, "padding": 1},
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_value_and_gradient_are_those_of_torch(options, batch, monkeypatch):
    layer, calls = _layer(**options), _tried(monkeypatch)
    if batch == 3:
        # The way of large images of many channels, for small ones too.
        monkeypatch.setattr("Agg2ExpLib.convolution._FROM_CHANNELS", 1)
        monkeypatch.setattr("Agg2ExpLib.convolution._FROM_VOXELS", 0)
    x, direction = torch.randn(batch, layer.in_channels, 9, 7, 8), torch.randn(50_000)
    torch_way, ours = _both(layer, x, direction)
    assert len(calls) == 3  # forward once, backward twice
    for expected, found in zip(torch_way, ours, strict=True):
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@needs_onednn
def test_a_tangent_and_a_second_derivative_are_those_of_torch():
    layer, x, direction = _layer(padding=1), torch.randn(1, 3, 6, 6, 6), torch.randn(1, 3, 6, 6, 6)

    def answer(image):
        return (layer(image) ** 3).sum(dim=(0, 2, 3, 4))

    expected = torch.autograd.functional.hvp(lambda image: answer(image).sum(), x, direction)[1]
    with FastConvolutions():
        found = torch.autograd.functional.hvp(lambda image: answer(image).sum(), x, direction)[1]
        value, tangent = torch.func.jvp(answer, (x,), (direction,))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert torch.allclose(value, answer(x), rtol=1e-5)
    assert torch.allclose(tangent, torch.func.jvp(answer, (x,), (direction,))[1], rtol=1e-4)


@needs_onednn
@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2},
        {"groups": 3, "channels": (3, 6)},
        {"padding": "same"},
        {"kernel": 1, "padding": 1},
        {"padding": 1, "padding_mode": "replicate", "stride": 2},
    ],
)
def test_what_does_not_qualify_takes_the_way_of_torch(options, monkeypatch):
    layer, calls = _layer(**options), _tried(monkeypatch)
    torch_way, ours = _both(layer, torch.randn(1, 3, 9, 7, 8), torch.randn(50_000))
    assert not calls
    for expected, found in zip(torch_way, ours, strict=True):
        assert torch.equal(expected, found)


@needs_onednn
def test_other_types_and_training_are_untouched(monkeypatch):
    calls = _tried(monkeypatch)
    layer, x = _layer(padding=1), torch.randn(1, 3, 6, 6, 6)
    with FastConvolutions():
        layer.double()(x.double())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            layer.float()(x)
        layer.requires_grad_(True)(x).sum().backward()
    assert not calls and layer.weight.grad is not None


@needs_onednn
def test_a_network_over_a_scan_runs_on_it(monkeypatch):
    calls = _tried(monkeypatch)
    layer = _layer(channels=(1, 2), padding=1)
    stitched = StitchedNetwork(layer, torch.randn(9, 8, 8), Windows((9, 8, 8), (8, 8, 8)), torch.zeros(1))
    answer = stitched_logits(stitched, 2)
    # Away from the seam of the two windows, whose borders are padded.
    assert torch.allclose(answer[:, 4:5, 1:-1, 1:-1], layer(stitched.x[None])[0][:, 4:5, 1:-1, 1:-1], atol=1e-5)
    assert len(calls) == len(stitched.windows) == 2
