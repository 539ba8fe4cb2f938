"""Networks small enough for tests, and attributions of them computed in the plainest way there is."""

import numpy as np
import torch
from monai.inferers import sliding_window_inference

from Agg2ExpLib.models.bundle import write_model_folder
from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.volume import Grid, Volume, write_volume


class Smooth(torch.nn.Module):
    """Two convolutions with a smooth bend between; instance norm makes each window's answer depend on all of it."""

    def __init__(self, classes=4, seed=0, norm=True):
        super().__init__()
        torch.manual_seed(seed)
        layers = [torch.nn.Conv3d(1, 6, 3, padding=1)]
        layers += [torch.nn.InstanceNorm3d(6)] if norm else []
        layers += [torch.nn.GELU(), torch.nn.Conv3d(6, classes, 3, padding=1)]
        self.layers = torch.nn.Sequential(*layers)
        self.calls = []
        for parameter in self.parameters():
            parameter.requires_grad_(False)

    def forward(self, x):
        self.calls.append(len(x))
        return self.layers(x)


class GreyLevels(torch.nn.Module):
    """Classes by grey level: class 1 is bright (over 0.75), class 2 is mid, class 3 never wins."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x):
        self.calls.append(len(x))
        never = -5.0 + 0.1 * torch.sin(x)
        return torch.cat([0.4 - x, 2 * (x - 0.75), 0.2 - (x - 0.5) ** 2, never], dim=1)


def tiny_swin_unetr(classes=3, seed=0):
    """A real Swin UNETR, as small as MONAI builds one; it takes windows of 64 x 32 x 32."""
    from monai.networks.nets import SwinUNETR

    torch.manual_seed(seed)
    network = SwinUNETR(in_channels=1, out_channels=classes, feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2),
                        window_size=4, use_v2=True, spatial_dims=3)  # fmt: skip
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network.eval()


def undivided(network, x, window, overlap, blending, windows_at_once=1):
    """Return MONAI's own stitched logits [K, i, j, k] of a volume, differentiable in it."""
    return sliding_window_inference(x[None, None], window, windows_at_once, network, overlap=overlap, mode=blending)[0]


def aggregated(logits, index, reduction, fixed=None):
    """Return F_c (equation 2); the mask and the probabilities are those of ``fixed`` and do not vary."""
    fixed = (logits if fixed is None else fixed).detach()
    weight = (fixed.argmax(0) == index).to(logits)
    if reduction == "mean":
        weight = weight / weight.sum()
    if reduction == "probability":
        weight = weight * fixed.softmax(0)[index]
        weight = weight / weight.sum()
    return (weight * logits[index]).sum()


def write_case(folder):
    """Write a small scan and a small model; return their paths."""
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2]}
    card = ModelCard(name="small", labels=("background", "one", "two"), spacing=(2.0, 2.0, 2.0), window=(16, 16, 16),
                     architecture={"name": "UNet", "arguments": arguments})  # fmt: skip
    model = write_model_folder(folder / "small", UNet(**arguments).state_dict(), card)
    rng = np.random.default_rng(0)
    hu = rng.normal(-900, 20, (24, 20, 22))
    hu[6:14, 5:12, 4:15] = rng.normal(0, 20, (8, 7, 11))
    hu[15:20, 8:14, 6:16] = rng.normal(800, 20, (5, 6, 10))
    path = folder / "ct.nii.gz"
    write_volume(Volume(hu.astype(np.int16), Grid(hu.shape, np.diag([2.0, 2.0, 2.0, 1.0]))), path)
    return path, model
