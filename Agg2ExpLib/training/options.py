"""Options of ``agg2exp train``; imports no torch, so that the command line's help is instant."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.training.settings import TrainingSettings

# Setting -> (option, type of one value, how many values (0: any number), help).
_OPTIONS: dict[str, tuple[str, type, int, str]] = {
    "spacing": ("--spacing", float, 3, "voxel size in mm"),
    "intensity_range": ("--intensity-range", float, 2, "HU mapped to 0 and 1"),
    "window": ("--window", int, 3, "patch and window in voxels, multiples of 32"),
    "overlap": ("--overlap", float, 1, "overlap of windows in prediction"),
    "feature_size": ("--feature-size", int, 1, "channels of the first stage, a multiple of 12"),
    "depths": ("--depths", int, 4, "transformer blocks per stage"),
    "heads": ("--heads", int, 4, "attention heads per stage"),
    "attention_window": ("--attention-window", int, 1, "side of the attention window in tokens"),
    "steps": ("--steps", int, 1, "optimiser steps"),
    "batch_size": ("--batch-size", int, 1, "patches per step and process"),
    "learning_rate": ("--learning-rate", float, 1, "peak of the cosine"),
    "weight_decay": ("--weight-decay", float, 1, "AdamW's weight decay"),
    "warmup": ("--warmup", int, 1, "steps of linear warm-up"),
    "average": ("--average", float, 1, "decay of the running mean of the weights, 0 for none"),
    "balanced": ("--balanced", float, 1, "share of patches centred on an evenly drawn class"),
    "margin": ("--margin", int, 1, "voxels that a patch may reach beyond the scan"),
    "focus": ("--focus", str, 0, "classes, with commas, that half of those patches are centred on"),
    "class_weights": ("--class-weights", str, 1, "none, or root: rarer classes weigh more in the cross-entropy"),
    "start": ("--start", str, 1, "model folder whose weights training begins with"),
    "precision": ("--precision", str, 1, "mixed or float32"),
    "seed": ("--seed", int, 1, "seed of weights and patches"),
    "validate_every": ("--validate-every", int, 1, "steps between validations"),
    "checkpoint_every": ("--checkpoint-every", int, 1, "steps between checkpoints"),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a training run, with the paper's recipe as defaults."""
    parser.add_argument(
        "data", metavar="CASES", help="folder of training cases (phantoms, or a TotalSegmentator download)"
    )
    parser.add_argument(
        "--validation", required=True, metavar="CASES", help="folder of validation cases, none of them trained on"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="model folder to write")
    parser.add_argument(
        "--run",
        dest="run_folder",
        default="runs/train",
        metavar="DIR",
        help="checkpoint, cache and logs (default runs/train)",
    )
    parser.add_argument("--name", help="name of the model")
    parser.add_argument("--description", default="", help="one sentence for the model's card")
    parser.add_argument("--licence", default="", help="licence of the model, for its card")
    parser.add_argument(
        "--labels", metavar="FILE", help="JSON list of class names, class 0 first (default: the thorax-17 set)"
    )
    parser.add_argument(
        "--device", default="auto", help="auto (default), cpu or cuda:N; torchrun gives each process its own"
    )
    defaults = TrainingSettings()
    for setting, (option, _, _, text) in _OPTIONS.items():
        default = getattr(defaults, setting)
        shown = ",".join(f"{v:g}" for v in default) if isinstance(default, tuple) else default
        shown = "none" if shown == "" else shown
        parser.add_argument(option, dest=setting, metavar="V", help=f"{text} (default {shown})")
    parser.add_argument(
        "--v1", dest="use_v2", action="store_false", help="without the residual blocks of Swin UNETR v2"
    )
    parser.set_defaults(command_line=shlex.join(["agg2exp", *sys.argv[1:]]))


def settings_of(options: argparse.Namespace) -> TrainingSettings:
    """Return the settings that the options ask for.

    Raises
    ------
    InputError
        An option whose value is not of its kind.
    """
    chosen: dict[str, Any] = {"use_v2": options.use_v2}
    if options.name:
        chosen["name"] = options.name
    if options.labels:
        from Agg2ExpLib.models import read_labels

        chosen["labels"] = tuple(read_labels(options.labels))
    for setting, (option, kind, count, _) in _OPTIONS.items():
        text = getattr(options, setting)
        if text is not None:
            chosen[setting] = _value(text, option, kind, count)
    return TrainingSettings(**chosen)


def _value(text: str, option: str, kind: type, count: int) -> Any:
    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"{option} {text!r} is not {'a number' if count == 1 else f'{count} numbers with commas'}"
        ) from error
    if not count:
        return values
    if count == 1 and len(values) == 1:
        return values[0]
    if len(values) == 1:
        values *= count
    if len(values) != count:
        raise InputError(f"{option} {text!r} has {len(values)} values; give {count}")
    return values
