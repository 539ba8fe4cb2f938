"""What several commands share: options, and the values that they stand for."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from Agg2ExpLib.case import REDUCTIONS
from Agg2ExpLib.cli.screen import say
from Agg2ExpLib.demo import DEMO_MODEL
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods import METHODS, Method
from Agg2ExpLib.progress import JsonLinesSink, Progress, TerminalSink
from Agg2ExpLib.request import PRESETS, Request, request_of

# Bars on the screen now, for the end of the command.
_BARS: list[TerminalSink] = []


def command(commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
    """Return the parser of a new command, with the options that all have."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    parser.add_argument(
        "--progress",
        choices=("bar", "json", "none"),
        default="bar",
        help="bar (default), JSON lines on standard output for a parent process, or none",
    )
    return parser


def goes_on(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Mark a command that continues where it was stopped when it is run again; the message on Ctrl-C says so."""
    parser.set_defaults(goes_on=True)
    return parser


def progress_of(options: argparse.Namespace) -> Progress:
    """Return what shows progress as ``--progress`` asks."""
    if options.progress == "none":
        return Progress()
    if options.progress == "json":
        parent = getattr(options, "parent", None)
        return Progress(JsonLinesSink(), ask=parent.wait if parent else None)
    _BARS.append(TerminalSink())
    return Progress(_BARS[-1])


def close_bars() -> None:
    """Take away the bars of a command that ends early, so that its last sentence stands on a line of its own."""
    while _BARS:
        _BARS.pop().clear()


def quiet_libraries() -> None:
    """Keep other libraries' deprecation notes off the user's screen; ours come as messages."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(monai|torch)(\.|$)")


def add_request(parser: argparse.ArgumentParser, image: bool = True) -> None:
    """Scan (when there is one), model, and what is asked: the options of every method, as the methods declare them."""
    if image:
        parser.add_argument(
            "image",
            metavar="IMAGE",
            nargs="+",
            help="scan: NIfTI, NRRD, MHA or multi-frame DICOM file, or a folder with a DICOM series; one for each channel, or "
            "FOLDER/CASE for CASE_0000.nii.gz, CASE_0001.nii.gz ...",
        )
        parser.add_argument(
            "--series",
            metavar="UID|N[:PART]",
            help="series of a DICOM folder, by UID or number (default: the largest CT); :PART is one of several stacks or time "
            "points; of several channels A,B in their order",
        )
    add_model_options(parser)
    parser.add_argument("--method", default="smoothgrad", help=f"{', '.join(METHODS)} (default smoothgrad)")
    parser.add_argument(
        "--preset", help=f"options of a method as a whole: {', '.join(PRESETS)}, as the paper's code has them"
    )
    parser.add_argument(
        "--classes", metavar="A,B", help="classes to explain; default every structure; 'all' adds background"
    )
    parser.add_argument("--reduction", default="sum", help=f"{', '.join(REDUCTIONS)} (default sum)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda:N")
    parser.add_argument("--precision", default="float32", help="float32 (default), float64, bfloat16, float16 (GPU)")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="windows per network pass (default: chosen by the device)"
    )
    parser.add_argument(
        "--recompute", action="store_true", help="gradients in less memory, computing a network's blocks again (slower)"
    )
    add_method_options(parser)


def add_method_options(parser: argparse.ArgumentParser) -> None:
    """Add every option that any method declares; one name is one option, whichever methods have it."""
    holders: dict[str, list[type[Method]]] = {}
    for method in METHODS.values():
        for one in method.options():
            holders.setdefault(one.name, []).append(method)
    group = parser.add_argument_group("options of the methods; one that the method does not have is refused")
    for name, methods in holders.items():
        one = next(each for each in methods[0].options() if each.name == name)
        default = "" if one.default is None else f" (default {one.default})"
        choices = f": {', '.join(one.choices)}" if one.choices else ""
        text = f"of {', '.join(method.id for method in methods)}: {one.help.rstrip('.')}{choices}{default}"
        flag = f"--{name.replace('_', '-')}"
        metavar = {int: "N", float: "X"}.get(one.kind, "TEXT")
        group.add_argument(flag, dest=name, type=one.kind, metavar=metavar, help=text.replace("%", "%%"))


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Model, and what a bare checkpoint cannot tell."""
    parser.add_argument(
        "--model",
        default=DEMO_MODEL,
        metavar="M",
        help=f"name (see agg2exp model list), folder or file of a model (default {DEMO_MODEL})",
    )
    add_card_options(parser)


def add_card_options(parser: argparse.ArgumentParser) -> None:
    """Add what a bare checkpoint or a program cannot tell, and what can be chosen of a model."""
    parser.add_argument(
        "--labels",
        metavar="A,B|FILE",
        help="class names, class 0 first, or a JSON list of them, for a bare checkpoint or a program",
    )
    parser.add_argument(
        "--spacing", metavar="X,Y,Z", help="model's voxel size in mm, when there is no card; scan: its own"
    )
    parser.add_argument(
        "--window", "--patch", metavar="X,Y,Z", help="network window in voxels, when there is no card; scan: all of it"
    )
    parser.add_argument("--overlap", type=float, help="overlap of windows, 0 to 0.9 (default: the card's)")
    parser.add_argument("--blending", help="constant or gaussian (default: the card's)")
    parser.add_argument(
        "--intensity-range", metavar="LOW,HIGH", help="HU that the network sees as 0 and 1, when there is no card"
    )
    parser.add_argument(
        "--intensities",
        metavar="NAME",
        help="of a program, in place of --intensity-range: unchanged, z-score, z-score-nonzero, min-max, percentiles[:LOW,HIGH]",
    )
    parser.add_argument("--channels", metavar="A,B", help="of a program: what each volume is, such as CT or T1,FLAIR")
    parser.add_argument("--orientation", metavar="RAS", help="axis codes of the network's grid, when there is no card")
    parser.add_argument(
        "--weights",
        metavar="NAME",
        help="which of several sets of weights in the file, such as ema (default: the trained)",
    )
    parser.add_argument(
        "--folds", metavar="A,B", help="nnU-Net: folds to average, such as 0,1 or all (default every numbered fold)"
    )
    parser.add_argument(
        "--mirroring",
        choices=("on", "off"),
        help="nnU-Net: average over mirrored copies where the checkpoint allows it (default on); off saves time",
    )
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="load a .pt/.pth on torch before 2.10, whose loader has known holes",
    )


def request_of_options(options: argparse.Namespace) -> Request:
    """Return the request that the options ask for."""
    names = {one.name for method in METHODS.values() for one in method.options()}
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return request_of(
        options.method,
        classes=class_list(options.classes),
        reduction=options.reduction,
        preset=options.preset,
        precision=options.precision,
        device=options.device,
        batch_size=options.batch_size,
        recompute=options.recompute or None,
        **given,
    )


def model_of(options: argparse.Namespace) -> Any:
    """Load the model that the options name."""
    from Agg2ExpLib.models import load_model

    return load_model(options.model, **card_options_of(options))


def card_options_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the options say beside a model."""
    return {
        "labels": _labels(options.labels),
        "spacing": _sides(options.spacing, "--spacing", float),
        "window": _sides(options.window, "--window", int),
        "overlap": options.overlap,
        "blending": options.blending,
        "intensity_range": _range(options.intensity_range),
        "intensities": options.intensities,
        "channels": class_list(options.channels),
        "orientation": options.orientation,
        "weights": options.weights,
        "folds": class_list(options.folds),
        "mirroring": options.mirroring,
        "trust_checkpoint": options.trust_checkpoint,
    }


def _labels(text: str | None) -> tuple[str, ...] | None:
    from Agg2ExpLib.models import read_labels
    from Agg2ExpLib.models.card import check_labels

    if not text:
        return None
    return check_labels(class_list(text)) if "," in text and not Path(text).exists() else read_labels(text)


def _sides(text: str | None, option: str, kind: Callable[[str], Any]) -> Any:
    return text if text in (None, "scan") else numbers(text, option, kind)


def _range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    low, high = numbers(text, "--intensity-range", float, 2)
    return low, high


def class_list(text: str | None) -> tuple[str, ...] | None:
    """Read ``a,b`` as names; ``None`` stays ``None``."""
    if text is None:
        return None
    return tuple(part.strip() for part in text.split(",") if part.strip())


def numbers(text: str, option: str, kind: Callable[[str], Any], count: int = 3) -> tuple[Any, ...]:
    """Read ``1.5`` or ``1.5,1.5,3`` as ``count`` numbers.

    Examples
    --------
    >>> numbers("96", "--window", int)
    (96, 96, 96)
    """
    parts = text.replace("x", ",").split(",")
    try:
        values = tuple(kind(part) for part in parts)
    except ValueError as error:
        raise InputError(f"{option} {text!r} is not a number or {count} numbers with commas between") from error
    if len(values) == 1:
        values *= count
    if len(values) != count:
        raise InputError(f"{option} {text!r} has {len(values)} numbers; give one or {count}")
    return values


def add_region_options(parser: argparse.ArgumentParser) -> None:
    """Regions beside the classes."""
    parser.add_argument(
        "--roi", action="append", default=[], metavar="NAME=FILE", help="extra region: a mask on any grid; repeatable"
    )
    parser.add_argument(
        "--rois",
        action="append",
        default=[],
        metavar="FILE",
        help="many regions: a label map, a folder of one mask a structure, .seg.nrrd, DICOM SEG or RTSTRUCT; repeatable",
    )


def regions_of(items: Sequence[str], files: Sequence[str] = ()) -> dict[str, Any]:
    """Read ``NAME=FILE`` items, and all regions of further files.

    Returns
    -------
    dict of str to Region
        In the order given.

    Raises
    ------
    InputError
        An item that is not ``NAME=FILE``, a name given twice, or a file that cannot be read.
    """
    from Agg2ExpLib.regions import Region, named_regions, read_regions

    named: dict[str, str] = {}
    for item in items:
        name, equals, file = item.partition("=")
        if not equals or not name.strip() or not file:
            raise InputError(f"--roi {item!r} is not NAME=FILE")
        if name.strip() in named:
            raise InputError(f"--roi {name.strip()!r} is given twice; give each region its own name")
        named[name.strip()] = file
    found: dict[str, Region] = {}
    for region in [
        *(region for name, file in named.items() for region in named_regions(name, file)),
        *(region for file in files for region in read_regions(file)),
    ]:
        if region.name in found:
            raise InputError(
                f"the region {region.name!r} is in {found[region.name].source} and in {region.source}; give each its own name"
            )
        found[region.name] = region
    return found


def images_of(options: argparse.Namespace, model: Any) -> list[Any]:
    """Return the scan: the paths as given, or volumes where series of a DICOM folder are chosen."""
    if options.series is None:
        return list(options.image)
    from Agg2ExpLib.models import kind_of_channel
    from Agg2ExpLib.volume import read_volume

    series = [part.strip() for part in options.series.split(",")]
    folders = list(options.image)
    if len(series) != len(folders):
        if min(len(series), len(folders)) != 1:
            raise InputError(f"--series names {len(series)} series of {len(folders)} folders; give one series for each")
        series, folders = series * len(folders), folders * len(series)
    kinds = [kind_of_channel(name) for name in model.card.channels]
    kinds += ["scan"] * (len(folders) - len(kinds))
    pairs = zip(folders, series, kinds, strict=False)
    return [read_volume(folder, kind=kind, series=one) for folder, one, kind in pairs]


def print_result(explanation: Any) -> None:
    """Print an explanation for people."""
    from Agg2ExpLib.report import describe

    say(describe(explanation))
