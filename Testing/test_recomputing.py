"""Gradients by recomputation: the same numbers, and less memory."""

import numpy as np
import pytest
import torch
from torch import nn

from Agg2ExpLib.case import Case
from Agg2ExpLib.case.recomputing import Recomputing, blocks_of
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods import Gradient, SmoothGrad
from Agg2ExpLib.models import Tiling, from_module
from Agg2ExpLib.volume import Grid, Volume

torch.set_num_threads(1)


def mesh(layers=8, width=4):
    """Make a network like MeshNet: dilated convolutions over the whole volume, none of them global."""
    torch.manual_seed(0)
    blocks, before = [], 1
    for number in range(layers):
        dilation = (1, 1, 2, 4, 2, 1, 1, 1)[number % 8]
        blocks += [
            nn.Conv3d(before, width, 3, padding=dilation, dilation=dilation),
            nn.BatchNorm3d(width),
            nn.LeakyReLU(inplace=True),
        ]
        before = width
    return nn.Sequential(*blocks, nn.Conv3d(width, 3, 1))


class Skipping(nn.Module):
    """Skip connections, and an activation in place at the beginning of a block."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv3d(1, 4, 3, padding=1)
        self.middle = nn.Sequential(
            nn.LeakyReLU(0.3, inplace=True), nn.Conv3d(4, 4, 3, padding=1), nn.InstanceNorm3d(4)
        )
        self.parts = nn.ModuleList(nn.Sequential(nn.LeakyReLU(inplace=True), nn.Conv3d(4, 4, 1)) for _ in range(2))
        self.last = nn.Conv3d(8, 3, 1)

    def forward(self, x):
        first = self.first(x)
        middle = self.middle(first * 1.0)
        for part in self.parts:
            middle = part(middle + 1)
        return self.last(torch.cat([first, middle], dim=1))


def case_of(network, recompute, window=None, precision="float64"):
    from Agg2ExpLib.device import Compute

    rng = np.random.default_rng(0)
    scan = Volume(rng.normal(size=(14, 12, 13)).astype(np.float32), Grid((14, 12, 13), np.eye(4)))
    model = from_module(network, classes=["bg", "a", "b"], tiling=Tiling(window or (14, 12, 13)), removed=0.0)
    return Case.open(scan, model, compute=Compute("cpu", precision, recompute=recompute))


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("make", [mesh, Skipping])
@pytest.mark.parametrize("method", [Gradient(), SmoothGrad(samples=2)])
def test_gradients_are_the_same_numbers(make, method, precision):
    plain = list(case_of(make(), False, (8, 8, 8), precision).attribute(method))
    again = list(case_of(make(), True, (8, 8, 8), precision).attribute(method))
    assert len(plain) == len(again) > 0
    for one, other in zip(plain, again, strict=True):
        assert one.values.any()
        close = {"rtol": 1e-9, "atol": 1e-12} if precision == "float64" else {"rtol": 1e-5, "atol": 1e-7}
        assert np.allclose(one.values, other.values, **close)


def test_layers_run_again_in_the_backward_pass_and_the_network_stays_as_it_was():
    network = mesh(16).eval().requires_grad_(False)
    runs = []
    network[3].register_forward_hook(lambda *_: runs.append(1))
    x = torch.rand(1, 1, 16, 16, 16, requires_grad=True)
    answer = Recomputing(network)(x)
    assert torch.equal(answer, network(x))
    runs.clear()
    answer.sum().backward()
    assert runs == [1]
    assert len(blocks_of(network)) == 1
    assert all("forward" not in vars(block) for block in network.modules())


def test_one_layer_alone_cannot_be_recomputed():
    with pytest.raises(InputError, match="several torch modules"):
        case_of(nn.Conv3d(1, 3, 1), True).segmentation  # noqa: B018
