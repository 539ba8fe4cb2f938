"""Tiny folders in the shape that nnU-Net v2 trains: plans, data set and checkpoints written by hand, with random weights."""

import json
from pathlib import Path

import numpy as np
import torch

from Agg2ExpLib.models.formats.nnunet_network import build_unet
from Agg2ExpLib.models.formats.nnunet_plans import resolved
from Agg2ExpLib.volume import Grid, Volume

TRAINED = "nnUNetTrainer__nnUNetPlans__3d_fullres"
LABELS = {"background": 0, "lung": 1, "heart": 2}
#: Overlapping, and painted in another order than they are numbered.
REGIONS = {"background": 0, "whole": [1, 2, 3], "rim": [2, 3], "core": 3}
INTENSITIES = {"mean": -150.0, "std": 400.0, "percentile_00_5": -950.0, "percentile_99_5": 600.0}


def architecture(residual=False, levels=2):
    depth = "n_blocks_per_stage" if residual else "n_conv_per_stage"
    kind = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": levels,
            "features_per_stage": [4, 6, 8][:levels],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]][:levels],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]][:levels],
            depth: [2, 2, 1][:levels],
            "n_conv_per_stage_decoder": [1, 1][: levels - 1],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def old_description(levels=2):
    """What plans said before they had an architecture."""
    return {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 6,
        "n_conv_per_stage_encoder": [2] * levels,
        "n_conv_per_stage_decoder": [1] * (levels - 1),
        "num_pool_per_axis": [1, 1, 1],
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2]],
        "conv_kernel_sizes": [[3, 3, 3]] * levels,
    }


def resampling(order, function="resample_data_or_seg_to_shape"):
    if function != "resample_data_or_seg_to_shape":
        return function, {"is_seg": False, "force_separate_z": None, "memefficient_seg_resampling": False}
    return function, {"is_seg": False, "order": order, "order_z": 0, "force_separate_z": None}


def plans(configuration=None, channels=1, function="resample_data_or_seg_to_shape", **changes):
    data, data_options = resampling(3, function)
    logits, logits_options = resampling(1, function)
    found = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [8, 12, 8],
        "spacing": [3.0, 2.0, 2.0],
        "normalization_schemes": ["CTNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": data,
        "resampling_fn_data_kwargs": data_options,
        "resampling_fn_seg": data,
        "resampling_fn_seg_kwargs": {**logits_options, "is_seg": True},
        "resampling_fn_probabilities": logits,
        "resampling_fn_probabilities_kwargs": logits_options,
        "architecture": architecture(),
        **(configuration or {}),
    }
    return {
        "dataset_name": "Dataset999_Small",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        # The trained configuration inherits all that it says.
        "configurations": {"base": found, "3d_fullres": {"inherits_from": "base", "batch_size": 3}},
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(index): INTENSITIES for index in range(channels)},
        **changes,
    }


def write_folder(
    parent, plan=None, *, labels=LABELS, order=None, channels=("CT",), folds=("0",), trainer="nnUNetTrainer",
    mirror=(0, 1, 2), name="checkpoint_final.pth", seed=0, configuration="3d_fullres",
):  # fmt: skip
    """Write a trained folder and return it."""
    folder, plan = Path(parent) / TRAINED, plan or plans(channels=len(channels))
    folder.mkdir(parents=True, exist_ok=True)
    dataset = {"channel_names": dict(enumerate(channels)), "labels": labels, "numTraining": 3, "file_ending": ".nii.gz"}
    dataset |= {"regions_class_order": order} if order else {}
    (folder / "plans.json").write_text(json.dumps(plan))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    heads = len([one for one in labels if one != "ignore"]) - (1 if order else 0)
    for number, fold in enumerate(folds):
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        content = checkpoint(plan, len(channels), heads, trainer, mirror, seed + number, configuration)
        torch.save(content, folder / f"fold_{fold}" / name)
    return folder


def checkpoint(plan, inputs, outputs, trainer, mirror, seed, configuration="3d_fullres"):
    """What nnU-Net saves: weights under all their names, NumPy numbers beside them, and the plans of the training."""
    found = resolved(plan, configuration)
    described = found.get("architecture") or {
        **architecture(), "arch_kwargs": {**architecture()["arch_kwargs"], "kernel_sizes": [[3, 3, 3]] * 2,
                                         "strides": [[1, 1, 1], [2, 2, 2]]}}  # fmt: skip
    network = build_unet(described, inputs, outputs, trainer == "nnUNetTrainerBN", Path("plans.json"))
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, tensor in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            value = torch.tensor(5)
        elif "running_var" in key or (".norm." in key and key.endswith("weight")):
            value = 1.0 + 0.3 * torch.rand(tensor.shape, generator=generator)
        else:
            value = torch.randn(tensor.shape, generator=generator) * 0.3
        if "seg_layers" in key:
            # Balanced, so that no class wins everywhere.
            value = value - value.mean(dim=1, keepdim=True) if key.endswith("weight") else 0 * value
        for other in all_names(key):
            weights[other] = value
    return {
        "network_weights": weights,
        "optimizer_state": {"state": {}, "param_groups": []},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.6)], "lrs": [0.01]},
        "_best_ema": np.float64(0.7),
        "current_epoch": 1000,
        "init_args": {"plans": plan, "configuration": configuration, "fold": 0, "dataset_json": {}},
        "trainer_name": trainer,
        "inference_allowed_mirroring_axes": mirror,
    }


def all_names(key):
    """Return the names under which nnU-Net's modules list one tensor."""
    names = [key]
    for part, number in ((".conv.", 0), (".norm.", 1)):
        if part in key:
            names.append(key.replace(part, f".all_modules.{number}."))
    return [*names, *(f"decoder.{name}" for name in names if name.startswith("encoder."))]


def scan(shape=(18, 22, 15), spacing=(1.5, 1.5, 2.5), seed=0, flips=(-1, -1, 1), border=0, scale=300.0):
    """Return smooth noise in HU, or in arbitrary positive units; ``border`` voxels around it are 0."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    voxels = (noise / noise.std() * scale - 200).astype(np.float32)
    if border:
        inside = np.zeros(shape, dtype=bool)
        inside[(slice(border, -border),) * 3] = True
        voxels = np.where(inside, voxels + 800, 0).astype(np.float32)
    affine = np.diag([*np.multiply(spacing, flips), 1.0])
    affine[:3, 3] = (30.0, -20.0, 10.0)
    return Volume(voxels, Grid(shape, affine))
