"""Layer Grad-CAM against captum's, over windows against its definition, and the choice of its layer."""

import numpy as np
import pytest
import torch
from attributions import attribute, predict
from small_networks import Smooth, aggregated, tiny_swin_unetr

from Agg2ExpLib.case.attribution import PassCount
from Agg2ExpLib.case.objective import objectives
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods.gradcam import find_layer

torch.set_num_threads(1)
SHAPE = (9, 10, 11)


class Coarse(torch.nn.Module):
    """A network with a coarser level, and an activation that works in place."""

    def __init__(self, classes=3):
        super().__init__()
        torch.manual_seed(1)
        self.fine = torch.nn.Conv3d(1, 4, 3, padding=1)
        self.down = torch.nn.Conv3d(4, 8, 3, stride=2, padding=1)
        self.bend = torch.nn.ReLU(inplace=True)
        self.head = torch.nn.Conv3d(8, classes, 1)
        self.requires_grad_(False)

    def forward(self, x):
        deep = self.bend(self.down(self.fine(x)))
        return torch.nn.functional.interpolate(self.head(deep), size=x.shape[2:], mode="trilinear")


def explained(network, x, windows, **options):
    count = network(torch.zeros(1, 1, *windows.window, dtype=x.dtype)).shape[1]
    aims = objectives(predict(network, x, windows, count, precision="float64"), windows, range(count))
    found = {
        one.class_index: one
        for one in attribute(network, x, windows, aims, method="gradcam", precision="float64", **options)
    }
    # Every class of the prediction, or a loop over the answer would say nothing.
    assert set(found) == {aim.class_index for aim in aims if aim.voxels}
    return found


@pytest.mark.parametrize("layer", ["fine", "down"])
def test_one_window_agrees_with_captums(layer):
    captum = pytest.importorskip("captum.attr")
    network = Coarse().double()
    torch.manual_seed(0)
    x = torch.rand(SHAPE, dtype=torch.float64)
    fixed = network(x[None, None])[0]
    found = explained(network, x, Windows(SHAPE, SHAPE, 0.25, "constant"), layer=layer)
    assert found
    for index, one in found.items():
        cam = captum.LayerGradCam(
            lambda batch, index=index: torch.stack([aggregated(v, index, "sum", fixed) for v in network(batch)]),
            getattr(network, layer),
        )
        varied = x[None, None].clone().requires_grad_(True)
        coarse = cam.attribute(varied, relu_attributions=True)
        theirs = torch.nn.functional.interpolate(coarse.float(), size=SHAPE, mode="trilinear")[0, 0].detach()
        assert np.allclose(one.full(SHAPE), theirs.numpy(), rtol=1e-4, atol=1e-6)


def test_maps_of_windows_are_blended_as_the_prediction_is():
    network = Coarse().double()
    torch.manual_seed(0)
    x = torch.rand((14, 10, 11), dtype=torch.float64)
    whole = Windows((14, 10, 11), (10, 10, 11), 0.5, "gaussian")
    assert len(whole) == 2
    for one in explained(network, x, whole, layer="down").values():
        assert one.values.min() >= 0
        assert one.values.max() > 0
    # Two windows of the same content have the same map, whatever their weights.
    twice = torch.cat([x[:10], x[:10]])
    apart = Windows((20, 10, 11), (10, 10, 11), 0.0, "gaussian")
    for one in explained(network, twice, apart, layer="down").values():
        assert np.allclose(one.values[:10], one.values[10:], rtol=1e-5)


def test_batches_do_not_change_the_maps():
    network = Smooth(seed=2).double()
    torch.manual_seed(0)
    x, windows = torch.rand((18, 14, 16), dtype=torch.float64), Windows((18, 14, 16), (10, 10, 10), 0.5, "gaussian")
    plain, together = explained(network, x, windows), explained(network, x, windows, batch_size=5)
    for index, one in plain.items():
        assert np.allclose(one.values, together[index].values, rtol=1e-5, atol=1e-8)


def test_a_window_runs_forward_once_for_all_classes():
    network = Smooth(seed=2).double()
    x, windows = torch.rand((18, 12, 12), dtype=torch.float64), Windows((18, 12, 12), (10, 10, 10), 0.5, "gaussian")
    passes = PassCount()
    found = explained(network, x, windows, passes=passes)
    # One more finds the layer.
    assert passes.forward == len(windows) + 1
    assert passes.backward == sum(one.backward_passes for one in found.values())


def test_the_layer_chosen_is_the_last_output_of_the_coarsest_useful_level():
    assert find_layer(Coarse(), (16, 16, 16), None, torch.zeros(1))[0] == "head"
    network, sizes = tiny_swin_unetr(), []
    _, module = find_layer(network, (64, 32, 32), None, torch.zeros(1))
    module.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[2:])))
    network(torch.zeros(1, 1, 64, 32, 32))
    assert sizes == [(8, 4, 4)]


class Normalised(torch.nn.Module):
    """A convolution whose maps are normalised one by one, as in nnU-Net and Swin UNETR."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.block = torch.nn.Sequential(
            torch.nn.Conv3d(1, 6, 3, stride=2, padding=1), torch.nn.InstanceNorm3d(6), torch.nn.LeakyReLU()
        )
        self.up = torch.nn.ConvTranspose3d(6, 3, 2, stride=2)
        self.requires_grad_(False)

    def forward(self, x):
        return self.up(self.block(x))


def test_a_layer_whose_mean_slopes_are_0_is_refused_and_never_chosen():
    """Before normalisation of each map every weight is 0, and what is drawn is rounding."""
    network, shape = Normalised().double(), (12, 12, 12)
    torch.manual_seed(0)
    x, windows = torch.rand(shape, dtype=torch.float64), Windows(shape, shape, 0.25, "constant")
    assert find_layer(network, shape, None, x[:1, 0, 0])[0] in ("block", "block.2")
    assert all(one.values.max() > 0 for one in explained(network, x, windows).values())
    with pytest.raises(InputError, match=r"layer block\.0 .* are all 0: instance normalisation follows"):
        explained(network, x, windows, layer="block.0")


@pytest.mark.parametrize(
    ("network", "layer", "words"),
    [
        (Coarse(), "dwon", "the network has no layer 'dwon': did you mean down"),
        (lambda x: x, None, "needs a network made of torch modules"),
        (torch.nn.Sequential(torch.nn.Identity()), None, "no convolution for Grad-CAM"),
    ],
)
def test_a_layer_that_cannot_serve_is_refused(network, layer, words):
    with pytest.raises(InputError, match=words):
        find_layer(network, (8, 8, 8), layer, torch.zeros(1))
