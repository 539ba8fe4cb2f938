"""Small bundles as other authors publish them, and their own workflow run by MONAI: what ours is compared with."""

import json

import nibabel
import numpy as np
import torch

WINDOW = [32, 32, 16]
LABELS = ("background", "heart", "liver")
UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 8],
    "strides": [2],
    "norm": "batch",
}
LOAD = [
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
]
SPACING = {"_target_": "Spacingd", "keys": "image", "pixdim": [2.0, 2.0, 3.0], "mode": "bilinear"}
RANGE = {
    "_target_": "ScaleIntensityRanged",
    "keys": "image",
    "a_min": -900,
    "a_max": 400,
    "b_min": 0,
    "b_max": 1,
    "clip": True,
}
SOFTMAX = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
ARGMAX = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
INVERT = {
    "_target_": "Invertd",
    "keys": "pred",
    "transform": "@preprocessing",
    "orig_keys": "image",
    "nearest_interp": False,
    "to_tensor": True,
}
SAVE = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "separate_folder": False}


def compose(*transforms):
    return {"_target_": "Compose", "transforms": list(transforms)}


def configuration(**changes):
    """A configuration in the shape of MONAI's model zoo; ``changes`` replace its top level, ``None`` leaves a key out."""
    content = {
        "imports": ["$import glob"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cpu')",
        "network_def": UNET,
        "network": "$@network_def.to(@device)",
        "preprocessing": compose(*LOAD, SPACING, RANGE, {"_target_": "EnsureTyped", "keys": "image"}),
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": WINDOW, "sw_batch_size": 2, "overlap": 0.5},
        "postprocessing": compose(SOFTMAX, INVERT, ARGMAX, SAVE),
        "checkpointloader": {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        },
        **changes,
    }
    return {key: value for key, value in content.items() if value is not None}


def metadata(labels=LABELS, *, modality="CT", channels=("image",)):
    return {
        "version": "0.3.0",
        "name": "Small bundle",
        "copyright": "Apache-2.0",
        "network_data_format": {
            "inputs": {
                "image": {
                    "modality": modality,
                    "num_channels": len(channels),
                    "spatial_shape": WINDOW,
                    "channel_def": {str(index): name for index, name in enumerate(channels)},
                }
            },
            "outputs": {"pred": {"channel_def": {str(index): name for index, name in enumerate(labels)}}},
        },
    }


def network_of(folder):
    return parsed(folder).get_parsed_content("network_def").eval()


def parsed(folder):
    """Read a bundle with MONAI's own parser."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(next(folder.glob("configs/inference.*")))
    parser.read_meta(folder / "configs/metadata.json")
    parser["bundle_root"] = str(folder)
    return parser


def write_bundle(folder, config, about=None, *, yaml=False, seed=0):
    """Write a bundle whose network has random weights that answer several classes."""
    for place in ("configs", "models"):
        (folder / place).mkdir(parents=True)
    (folder / "configs/metadata.json").write_text(json.dumps(about or metadata()))
    if yaml:
        import yaml as writer

        (folder / "configs/inference.yaml").write_text(writer.safe_dump(config, sort_keys=False))
    else:
        (folder / "configs/inference.json").write_text(json.dumps(config))
    torch.manual_seed(seed)
    network = network_of(folder)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn_like(buffer))
    torch.save({"model": network.state_dict(), "epoch": 3}, folder / "models/model.pt")
    return folder


def write_scan(path, *, shape=(37, 30, 21), seed=1, low=-1000.0, spread=300.0):
    """Write a scan with structure at several scales, LPS and slightly turned, as NIfTI."""
    rng = np.random.default_rng(seed)
    i, j, k = np.meshgrid(*(np.linspace(-1, 1, count) for count in shape), indexing="ij")
    body = i**2 + j**2 + k**2 < 0.9
    hu = np.where(body, 100 * np.sin(5 * i + seed) + 200 * np.cos(4 * j * k) + rng.normal(0, spread, shape), low)
    turn = np.array([[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.7, -1.6, 2.5])
    affine[:3, 3] = (40, 30, -20)
    nibabel.save(nibabel.Nifti1Image(np.round(hu).astype(np.int16), affine), path)
    return path


def own_workflow(folder, scans):
    """Run a bundle's own workflow by MONAI's parser and classes; return network input, logits, and the transformed answer."""
    parser = parsed(folder)
    network = parser.get_parsed_content("network")
    network.load_state_dict(torch.load(folder / "models/model.pt", weights_only=True)["model"])
    network.eval()
    before, inferer, after = (parser.get_parsed_content(key) for key in ("preprocessing", "inferer", "postprocessing"))
    data = before({"image": [str(scan) for scan in scans] if len(scans) > 1 else str(scans[0])})
    with torch.no_grad():
        logits = inferer(data["image"][None], network)[0]
    answer = after({"image": data["image"], "pred": logits.clone()})
    return data["image"].numpy(), logits.numpy(), answer["pred"].numpy()


def saved(folder):
    """Return the label map that the bundle's own workflow has written."""
    (path,) = (folder / "eval").rglob("*.nii.gz")
    return np.squeeze(np.asanyarray(nibabel.load(path).dataobj)).round().astype(int)
