"""What programs (TorchScript, torch.export, ONNX) have in common: they hold a network and say nothing else.

How a scan is prepared, which classes there are and how large a window is are asked for by name; nothing is assumed. What the
network answers is told from a trial: logits, probabilities, or something that cannot be explained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.models.bundle_decision import Decided
from Agg2ExpLib.models.bundle_plan import BundlePlan, Step
from Agg2ExpLib.models.card import ModelCard, make_card
from Agg2ExpLib.models.interface import Decision, Prepared, SigmoidRegions, Softmax
from Agg2ExpLib.models.registry import refuse_options
from Agg2ExpLib.volume import Volume

if TYPE_CHECKING:
    import torch

Answer = Literal["logits", "softmax", "sigmoid"]

#: What a model may not say -> how it is given.
ASKED = {
    "labels": "--labels A,B,... or FILE (class names, background first)",
    "channels": "--channels CT (what each volume is; T1,FLAIR for two)",
    "spacing": "--spacing X,Y,Z (mm, or scan for the scan's own)",
    "orientation": "--orientation RAS",
    "intensities": "--intensity-range LOW,HIGH or --intensities NAME",
    "intensity_range": "--intensity-range LOW,HIGH (values that the network sees as 0 and 1)",
    "window": "--window X,Y,Z (voxels, or scan for the whole scan at once)",
}
#: What is asked of a program, and of a checkpoint.
ASKED_OF_PROGRAM = ("labels", "channels", "spacing", "orientation", "intensities", "window")
ASKED_OF_CHECKPOINT = ("labels", "spacing", "window", "intensity_range")
#: Value of ``spacing`` and ``window`` that leaves them to the scan.
OWN = "scan"
#: Name -> what it does to intensities, each channel for itself, as a transform of MONAI.
INTENSITIES: dict[str, tuple[Step, ...]] = {
    "unchanged": (),
    "z-score": (Step("NormalizeIntensity", {"channel_wise": True}),),
    "z-score-nonzero": (Step("NormalizeIntensity", {"channel_wise": True, "nonzero": True}),),
    "min-max": (Step("ScaleIntensity", {"minv": 0.0, "maxv": 1.0, "channel_wise": True}),),
    "percentiles": (
        Step(
            "ScaleIntensityRangePercentiles",
            {"lower": 0.5, "upper": 99.5, "b_min": 0.0, "b_max": 1.0, "clip": True, "channel_wise": True},
        ),
    ),
}
_TRIAL_SIDE = 64
_STRONG = 1e4
_SUM_TOLERANCE = 1e-3
# The step of float32 below 1: a probability nearer to 0 or 1 has no finite log-odds.
_SMALLEST = 2.0**-24


@dataclass(frozen=True)
class Stated:
    """What a program's own file says; ``None`` where it does not.

    Attributes
    ----------
    channels : int or None
        Volumes that the network takes.
    window : tuple of int or None
        The only window that it takes.
    labels : tuple of str or None
        Class names.
    """

    channels: int | None = None
    window: tuple[int, ...] | None = None
    labels: tuple[str, ...] | None = None


def card_of_program(path: Path, options: Mapping[str, Any], stated: Stated) -> ModelCard:
    """Return the card of a program from what the user says and its file states.

    Raises
    ------
    InputError
        Something that neither says, with all that is missing; or both say, and differently.
    """
    refuse_options(options, str(path), ("folds", "mirroring", "weights"))
    given = dict(options)
    if stated.labels and "labels" not in given:
        given["labels"] = stated.labels
    if stated.window is not None:
        if "window" in given and given["window"] != OWN and tuple(given["window"]) != stated.window:
            raise InputError(f"{path}: takes windows of {_sides(stated.window)} voxels only; leave --window out")
        given["window"] = stated.window
    if "intensity_range" in given and "intensities" in given:
        raise InputError(f"{path}: --intensity-range and --intensities say the same thing; give one of them")
    said = given | ({"intensities": ""} if "intensity_range" in given else {})
    refuse_unsaid(path, said, ASKED_OF_PROGRAM, "a program does not say how its network is used")
    channels = tuple(given["channels"])
    if stated.channels is not None and len(channels) != stated.channels:
        raise InputError(
            f"{path}: its network takes {stated.channels} channels, but --channels names {len(channels)} ({', '.join(channels)})"
        )
    _intensities(given)
    found = {
        "name": path.stem,
        "labels": given["labels"],
        "channels": channels,
        "spacing": None if given["spacing"] == OWN else given["spacing"],
        "orientation": given["orientation"],
        "window": None if given["window"] == OWN else given["window"],
        "intensity_range": given.get("intensity_range"),
        "overlap": given.get("overlap", 0.25),
        "blending": given.get("blending", "gaussian"),
    }
    told = [f"{name}: {found[name]}, because a program does not state it" for name in ("overlap", "blending")]
    kept = {key: _plain(given[key]) for key in ("channels", "spacing", "orientation", "intensities") if key in given}
    extra = {
        "assumed": [line for line in told if line.partition(":")[0] not in given],
        "options": kept | ({"window": OWN} if found["window"] is None else {}),
    }
    return make_card({**found, "extra": extra}, path)


def refuse_unsaid(path: Path, said: Mapping[str, Any], asked: Sequence[str], why: str) -> None:
    """Refuse a model of which something is neither said nor assumed.

    Raises
    ------
    InputError
        With all that is missing, and how each is given.
    """
    missing = [ASKED[name] for name in asked if name not in said]
    if missing:
        raise InputError(f"{path}: {why}; give {', '.join(missing)}; agg2exp model add remembers it")


def preparation(card: ModelCard, path: Path) -> Callable[[Sequence[Volume]], Prepared]:
    """Return how a scan is prepared: turned, resampled, its intensities as the user said; labels go back by nearest voxel."""
    options = card.extra["options"]
    before = [Step("Orientation", {"axcodes": card.orientation})]
    if card.spacing:
        before.append(Step("Spacing", {"pixdim": list(card.spacing), "mode": "bilinear"}))
    if card.intensity_range:
        low, high = card.intensity_range
        before.append(
            Step("ScaleIntensityRange", {"a_min": low, "a_max": high, "b_min": 0.0, "b_max": 1.0, "clip": True})
        )
    else:
        before += _intensities(options)
    modality = "CT" if all(name.upper() == "CT" for name in card.channels) else ", ".join(card.channels)
    # Labels come as one map, whatever decided on them.
    plan = BundlePlan(path, {}, "image", tuple(before), Decided(Softmax(), (), 0, {}), {}, {}, None, None, modality, ())

    def prepared(images: Sequence[Volume]) -> Prepared:
        from Agg2ExpLib.models.formats.bundle_transforms import Transforms

        return Transforms.of(plan).prepare(images)

    return prepared


def trial_shapes(card: ModelCard, fixed: bool) -> list[tuple[int, ...]]:
    """Return windows to try a network with, small ones first where it may take any."""
    window = card.window or (_TRIAL_SIDE,) * 3
    small = tuple(min(side, _TRIAL_SIDE) for side in window)
    return [window] if fixed or small == window else [small, window]


def tried(
    network: Callable[[torch.Tensor], torch.Tensor], card: ModelCard, path: Path, fixed: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a random window and a network's answer to it, without gradients.

    Raises
    ------
    InputError
        It fails, answers something else than one number per class and voxel, or answers twice differently.
    """
    import torch

    error: Exception | None = None
    for shape in trial_shapes(card, fixed):
        x = torch.rand((1, len(card.channels), *shape), generator=torch.Generator().manual_seed(0))
        try:
            with torch.no_grad():
                answer, again = network(x), network(x)
            break
        except Exception as found:  # whatever a program of others raises
            error = found
    else:
        line = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        raise InputError(
            f"{path}: its network does not run on {len(card.channels)} x {_sides(shape)} voxels ({line}); is --window or "
            "--channels another?"
        )
    _check_answer(answer, again, x, card, path)
    return x, answer


def _check_answer(answer: Any, again: Any, x: torch.Tensor, card: ModelCard, path: Path) -> None:
    import torch

    if not isinstance(answer, torch.Tensor):
        raise InputError(
            f"{path}: answers a {type(answer).__name__}; only a network that answers one tensor is explained"
        )
    if answer.ndim != 5 or answer.shape[2:] != x.shape[2:]:
        raise InputError(
            f"{path}: answers {tuple(answer.shape)} for a window of {_sides(x.shape[2:])}; one number for each class and "
            "voxel is needed"
        )
    if not answer.is_floating_point() or bool((answer == answer.round()).all()):
        raise InputError(
            f"{path}: answers a finished label map, not one number for each class, so there is nothing to explain; export "
            "the network without its last step"
        )
    if not torch.equal(answer, again):
        raise InputError(
            f"{path}: answers the same window twice differently; it was exported in training mode, export it after .eval()"
        )


def decision_of(answer: torch.Tensor, card: ModelCard, path: Path) -> Decision:
    """Tell the decision from how many numbers a voxel gets.

    Raises
    ------
    InputError
        Another number than there are labels.
    """
    count, labels = answer.shape[1], len(card.labels)
    if count == labels:
        return Softmax()
    if count == labels - 1:
        return SigmoidRegions(tuple(range(count)))
    raise InputError(
        f"{path}: its network answers {count} classes, but {labels} labels are given; give {count} names, background first "
        f"(or {count + 1} when its classes may overlap and background has no answer of its own)"
    )


def scale_of(answer: torch.Tensor, network: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Answer:
    """Tell logits from probabilities: those between 0 and 1, which sum to 1 where one class is meant.

    Small logits may lie there too: probabilities stay there whatever the network is shown.
    """
    import torch

    if float(answer.min()) < 0 or float(answer.max()) > 1:
        return "logits"
    if answer.shape[1] > 1 and float((answer.sum(dim=1) - 1).abs().max()) < _SUM_TOLERANCE:
        return "softmax"
    with torch.no_grad():
        strong = [network(_STRONG * x), network(-_STRONG * x)]
    return "logits" if any(bool(((one < 0) | (one > 1)).any()) for one in strong) else "sigmoid"


def as_logits(answer: torch.Tensor, scale: Answer) -> torch.Tensor:
    """Return what stands for logits: the logarithm of a softmax (its constant per voxel is lost), the log-odds of a sigmoid."""
    import torch

    if scale == "softmax":
        return answer.clamp_min(torch.finfo(torch.float32).tiny).log()
    return torch.logit(answer, eps=_SMALLEST) if scale == "sigmoid" else answer


def told_scale(scale: Answer, taken_off: bool, answer: torch.Tensor) -> list[str]:
    """Return what is said of probabilities, and of their logarithms."""
    if scale == "logits":
        total = answer.logsumexp(dim=1)
        if answer.shape[1] > 1 and float(total.abs().max()) < _SUM_TOLERANCE:
            return [
                "answer: the network ends with a log-softmax; the logarithm of the probability is explained in place of the "
                "logit, from which it differs by the same number for all classes of a voxel"
            ]
        return []
    if taken_off:
        return [f"answer: the network ends with a {scale}, which is left out; its logits are explained"]
    if scale == "softmax":
        return [
            "answer: the network answers probabilities that sum to 1; their logarithm is explained in place of the logit, "
            "from which it differs by the same number for all classes of a voxel"
        ]
    return [
        "answer: the network answers probabilities; their log-odds are explained, which are its logits up to rounding"
    ]


def told_decision(decision: Decision) -> list[str]:
    """Return what is said of overlapping classes."""
    if isinstance(decision, Softmax):
        return []
    return [
        "regions: background has no answer of its own, so each class is there where its probability is above a half; in the "
        "label map a later one is drawn over an earlier"
    ]


def _intensities(options: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return the transforms of ``intensities``, such as ``z-score`` or ``percentiles:1,99``."""
    name, _, numbers = str(options.get("intensities", "unchanged")).partition(":")
    if name not in INTENSITIES:
        raise InputError(f"unknown --intensities {name!r}: {nearest_names(name, INTENSITIES)}")
    if not numbers:
        return INTENSITIES[name]
    try:
        lower, upper = (float(number) for number in numbers.split(","))
    except ValueError:
        lower = upper = 0.0
    if name != "percentiles" or not 0 <= lower < upper <= 100:
        raise InputError(
            f"--intensities {options['intensities']!r}: only percentiles take numbers, such as percentiles:1,99"
        )
    (step,) = INTENSITIES[name]
    return (Step(step.name, {**step.arguments, "lower": lower, "upper": upper}),)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _sides(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
