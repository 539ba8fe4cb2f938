"""What follows the network in a MONAI bundle: which decision it is, and where the way back to the scan begins. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.interface import Decision, SigmoidRegions, Softmax

#: Transforms after the network -> arguments that are honoured.
AFTER: dict[str, tuple[str, ...]] = {
    "EnsureType": ("dtype",),
    "CastToType": ("dtype",),
    "ToTensor": (),
    "Identity": (),
    "Activations": ("sigmoid", "softmax"),
    "AsDiscrete": ("argmax", "threshold", "to_onehot", "rounding"),
    "Invert": ("nearest_interp",),
    "KeepLargestConnectedComponent": ("applied_labels", "is_onehot", "independent", "connectivity", "num_components"),
    "RemoveSmallObjects": ("min_size", "connectivity", "independent_channels"),
    "FillHoles": ("applied_labels", "connectivity"),
    "SaveImage": ("resample", "mode", "padding_mode", "scale", "dtype"),
}
_CHANGES_LABELS = ("KeepLargestConnectedComponent", "RemoveSmallObjects", "FillHoles")
_NOT_NEEDED = ("ToTensor", "Identity", "SaveImage")
_HALF = 0.5


@dataclass(frozen=True)
class Decided:
    """What follows the network.

    Attributes
    ----------
    decision : Softmax or SigmoidRegions
        From logits to labels.
    steps : tuple of (str, mapping)
        Transforms of the logits, in order, without the saving.
    from_labels : int or None
        The first step that the label map can begin with; ``None`` when logits or probabilities are resampled first.
    save : mapping
        How the file is written.
    notes : tuple of str
        What is said of it.
    """

    decision: Decision
    steps: tuple[tuple[str, Mapping[str, Any]], ...]
    from_labels: int | None
    save: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def inverts(self) -> bool:
        """Whether the bundle itself goes back to the scan's grid."""
        return any(name == "Invert" for name, _ in self.steps)

    def told(self) -> list[Any]:
        """Return the steps as plain values."""
        return [[name, dict(arguments)] for name, arguments in self.steps]


def decided(steps: Sequence[tuple[str, Mapping[str, Any]]], outputs: Any, path: Path) -> Decided:
    """Tell the decision.

    Parameters
    ----------
    steps : sequence of (str, mapping)
        Transforms with plain arguments, in order; none is one label a voxel.
    outputs : int
        Channels of the network.
    path : Path
        Named in errors.

    Raises
    ------
    InputError
        An order that makes no decision, or one that logits above 0 do not make.
    """
    save = next((arguments for name, arguments in steps if name == "SaveImage"), {})
    if save.get("scale") is not None:
        raise InputError(f"{path}: postprocessing: scale of SaveImage is not supported")
    kept = tuple((name, arguments) for name, arguments in steps if name not in _NOT_NEEDED)
    if not kept:
        return Decided(Softmax(), (), 0, save)
    notes = _notes(kept, save)
    sigmoid = softmax = False
    for number, (name, arguments) in enumerate(kept):
        if name == "Activations":
            sigmoid, softmax = sigmoid or bool(arguments.get("sigmoid")), softmax or bool(arguments.get("softmax"))
        if name in _CHANGES_LABELS:
            raise InputError(f"{path}: postprocessing: {name} before the decision is not supported")
        if name != "AsDiscrete":
            continue
        if arguments.get("rounding"):
            raise InputError(f"{path}: postprocessing: rounding of AsDiscrete is not supported")
        resampled = any(one == "Invert" for one, _ in kept[:number])
        if arguments.get("argmax"):
            if arguments.get("threshold") is not None:
                raise InputError(
                    f"{path}: postprocessing: a threshold of AsDiscrete beside its argmax is not supported"
                )
            _check_one_hot(kept, number, outputs, path)
            return Decided(Softmax(), kept, None if resampled else number + 1, save, notes)
        if arguments.get("threshold") is not None:
            _check_threshold(arguments["threshold"], sigmoid, softmax, path)
            regions = f"regions: {outputs} regions may overlap; in the label map a later one is drawn over an earlier"
            return Decided(SigmoidRegions(tuple(range(outputs))), kept, None, save, (*notes, regions))
    raise InputError(f"{path}: postprocessing: has neither argmax nor a threshold, so what it decides is not known")


def _check_threshold(threshold: Any, sigmoid: bool, softmax: bool, path: Path) -> None:
    if threshold != _HALF or not sigmoid or softmax:
        raise InputError(
            f"{path}: postprocessing: a threshold of {threshold!r} {'on a sigmoid' if sigmoid else 'without a sigmoid'} is not "
            "supported; only 0.5 on a sigmoid is"
        )


def _check_one_hot(kept: Sequence[tuple[str, Mapping[str, Any]]], number: int, outputs: Any, path: Path) -> None:
    """After argmax, channels are only those of a label map or of all its classes."""
    for name, arguments in kept[number:]:
        count = arguments.get("to_onehot") if name == "AsDiscrete" else None
        if count not in (None, False, outputs):
            raise InputError(f"{path}: postprocessing: to_onehot = {count!r} with {outputs} classes is not supported")
    if any(name in ("Activations", "AsDiscrete") for name, _ in kept[number + 1 :]):
        raise InputError(f"{path}: postprocessing: {kept[number + 1][0]} after argmax is not supported")


def _notes(kept: Sequence[tuple[str, Mapping[str, Any]]], save: Mapping[str, Any]) -> tuple[str, ...]:
    changing = [name for name, _ in kept if name in _CHANGES_LABELS]
    notes = [
        f"postprocessing: {name} changes the label map after the network's decision; it is in prediction.nii.gz, and what is "
        "explained is the network's own decision"
        for name in dict.fromkeys(changing)
    ]
    inverts = any(name == "Invert" for name, _ in kept)
    if not inverts and save.get("resample") and save.get("mode", "nearest") != "nearest":
        notes.append(
            "postprocessing: the bundle's own file mixes label numbers between voxels (SaveImage with "
            f"{save['mode']}); here the nearest voxel is taken"
        )
    elif not inverts and not save.get("resample"):
        notes.append(
            "postprocessing: the bundle's own file stays on the network's grid; here its labels are brought to the scan's "
            "grid by the nearest voxel"
        )
    return tuple(notes)
