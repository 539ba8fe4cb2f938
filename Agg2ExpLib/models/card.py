"""The model card: everything about a segmentation model except its weights. Imports no torch.

Slicer's own process reads cards to show them, so nothing here may need a network library. How a card lies in a
MONAI-bundle ``metadata.json`` is the business of :mod:`Agg2ExpLib.models.metadata`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from Agg2ExpLib.anatomy import RGB, structure
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.architectures import check_architecture, check_window
from Agg2ExpLib.models.interface import BLENDINGS, Decision, Softmax, Tiling
from Agg2ExpLib.models.metadata import fields_of_folder, fields_of_metadata, metadata_of_card, read_json
from Agg2ExpLib.storage import file_key

#: What the paper's model was trained with.
PAPER_INTENSITY_RANGE = (-1024.0, 1024.0)
DEFAULT_WINDOW = (96, 96, 96)

_MAX_CLASSES = 1024
_MAX_LABEL_LENGTH = 128
_MAX_TEXT_LENGTH = 20_000
_MAX_EXTRA_BYTES = 250_000
_MAX_SPACING_MM = 100.0
_MAX_HU = 100_000.0
_MAX_OVERLAP = 0.9
_MAX_WINDOW_SIDE = 1024
_MAX_WINDOW_VOXELS = 256**3
_AXES = ("RL", "AP", "SI")


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a segmentation model expects and answers; checks itself when it is made.

    Attributes
    ----------
    name : str
        Short name of the model.
    labels : tuple of str
        Class names in channel order, class 0 (background) first.
    colours : tuple of RGB
        One colour per class, 0 to 255; empty takes those of :func:`Agg2ExpLib.anatomy.structure`.
    spacing : tuple of float or None
        Voxel spacing in mm that the network was trained at; ``None`` keeps each scan's own.
    orientation : str
        Axis codes of the voxel axes, such as ``"RAS"``.
    intensity_range : tuple of float or None
        HU values that are mapped to 0 and 1 (values outside are clipped); ``None`` where the model's format prepares scans
        in a way of its own.
    window : tuple of int or None
        Voxels of one sliding window along each axis; ``None`` is the whole volume at once.
    overlap : float
        Fraction of a window shared with the next one, 0 to 0.9.
    blending : str
        One of :data:`~Agg2ExpLib.models.interface.BLENDINGS`.
    step, sigma, padding, mirror_axes
        More about the windows; see :class:`~Agg2ExpLib.models.interface.Tiling`.
    channels : tuple of str
        What the network takes, one volume each: ``("CT",)``, or the MR sequences.
    decision : Softmax or SigmoidRegions
        From logits to labels.
    architecture : mapping
        ``{"name": ..., "arguments": {...}}`` with a name of
        :data:`Agg2ExpLib.models.architectures.ARCHITECTURES`; empty when it must be told from the weights.
    licence, description, version : str
        For people.
    extra : mapping
        Provenance: training command, seed, validation table. The key ``"assumed"`` lists what was assumed.

    Raises
    ------
    InputError
        When a field cannot be used; the text begins with the field's name.

    Examples
    --------
    >>> card = ModelCard(name="demo", labels=["background", "heart"], window=[32, 32, 32])
    >>> card.labels, card.colours[1]
    (('background', 'heart'), (158, 16, 44))
    """

    name: str
    labels: tuple[str, ...]
    colours: tuple[RGB, ...] = ()
    spacing: tuple[float, float, float] | None = None
    orientation: str = "RAS"
    intensity_range: tuple[float, float] | None = PAPER_INTENSITY_RANGE
    window: tuple[int, int, int] | None = DEFAULT_WINDOW
    overlap: float = 0.25
    blending: str = "gaussian"
    step: float | None = None
    sigma: float = 0.125
    padding: float | str | None = None
    mirror_axes: tuple[int, ...] = ()
    channels: tuple[str, ...] = ("CT",)
    decision: Decision = field(default_factory=Softmax)
    architecture: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    description: str = ""
    version: str = "0.1.0"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Bring every field to its type, or say what is wrong with it."""
        labels = check_labels(self.labels)
        checked: dict[str, Any] = {
            "name": _text("name", self.name, _MAX_LABEL_LENGTH, required=True),
            "labels": labels,
            "colours": _colours(self.colours, labels),
            "spacing": _spacing(self.spacing),
            "orientation": _orientation(self.orientation),
            "intensity_range": _intensity_range(self.intensity_range),
            "window": _window(self.window),
            "overlap": _number("overlap", self.overlap, 0.0, _MAX_OVERLAP),
            "blending": _blending(self.blending),
            "mirror_axes": _mirror_axes(self.mirror_axes),
            "channels": _channels(self.channels),
            "architecture": check_architecture(
                self.architecture,
                len(labels) - (0 if self.decision.explains_background else 1),
                len(_channels(self.channels)),
            ),
            "licence": _text("licence", self.licence),
            "description": _text("description", self.description),
            "version": _text("version", self.version, _MAX_LABEL_LENGTH, required=True),
            "extra": _extra(self.extra),
        }
        check_window(checked["architecture"], checked["window"])
        for key, value in checked.items():
            object.__setattr__(self, key, value)
        self.tiling  # noqa: B018 - checks the fields that only it reads

    @property
    def tiling(self) -> Tiling:
        """How the network goes over a scan."""
        return Tiling(
            self.window,
            self.overlap,
            self.step,
            self.blending,
            self.sigma,
            self.padding,  # type: ignore[arg-type]
            self.mirror_axes,
        )

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What was not stated by the model's author and was assumed, one sentence each."""
        assumed = self.extra.get("assumed", ())
        return tuple(str(line) for line in assumed) if isinstance(assumed, list) else ()

    def to_metadata(self) -> dict[str, Any]:
        """Return the card as the content of a MONAI bundle's ``metadata.json``."""
        return metadata_of_card(self)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], source: str | Path, **overrides: Any) -> ModelCard:
        """Read the card in the content of a ``metadata.json``: ours, or that of any MONAI bundle.

        Parameters
        ----------
        metadata
            The parsed file.
        source
            Named in errors.
        **overrides
            Fields that replace those of the file (``None`` is ignored).

        Raises
        ------
        InputError
            When a field is missing or unusable, or the file is of a newer format.
        """
        found = {"name": Path(source).stem, **fields_of_metadata(metadata, source)}
        return make_card(found, source, **overrides)


def make_card(found: Mapping[str, Any], source: str | Path, **overrides: Any) -> ModelCard:
    """Make a card of fields found in a file and fields given by the user, naming ``source`` in every error."""
    given = {key: value for key, value in overrides.items() if value is not None}
    unknown = set(given) - {item.name for item in fields(ModelCard)}
    if unknown:
        raise TypeError(f"no such card field: {sorted(unknown)}")
    merged: dict[str, Any] = {**found, **given}
    if "labels" in given and "colours" not in given:
        # The file's colours belong to the file's labels.
        merged["colours"] = ()
    if isinstance(merged.get("extra"), Mapping) and isinstance(merged["extra"].get("assumed"), list):
        still = [line for line in merged["extra"]["assumed"] if str(line).split(":")[0] not in given]
        merged["extra"] = {**merged["extra"], "assumed": still}
    for name, option in (("labels", "--labels"), ("window", "--window")):
        if name not in merged:
            raise InputError(f"{source}: does not say the model's {name}; give them with {option}")
    try:
        return ModelCard(**merged)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def read_card(folder: str | Path, **overrides: Any) -> ModelCard:
    """Read the card of a model folder, without torch and without touching the weights.

    Parameters
    ----------
    folder
        A folder with ``metadata.json`` at its top or in ``configs``.
    **overrides
        Fields that replace those of the file (``None`` is ignored).

    Raises
    ------
    InputError
        When there is no such file or it cannot be used.
    """
    path, found = fields_of_folder(Path(folder))
    return make_card({"name": Path(folder).resolve().name, **found}, path, **overrides)


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Read a label file: a JSON list of class names, class 0 (background) first.

    Raises
    ------
    InputError
        When the file is no such list.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(f'{path}: must hold a JSON list of class names such as ["background", "heart"]')
    try:
        return check_labels(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def check_labels(labels: Any) -> tuple[str, ...]:
    """Return class names as a tuple, or raise :class:`InputError` saying which name cannot be used."""
    if isinstance(labels, str) or not isinstance(labels, Sequence):
        raise InputError("labels: must be a list of class names, class 0 (background) first")
    if not 2 <= len(labels) <= _MAX_CLASSES:
        raise InputError(f"labels: {len(labels)} names; a segmentation model has 2 to {_MAX_CLASSES} classes")
    seen: dict[str, str] = {}
    for index, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip() or len(label) > _MAX_LABEL_LENGTH or not label.isprintable():
            raise InputError(
                f"labels: the name of class {index} must be printable text of 1 to {_MAX_LABEL_LENGTH} characters"
            )
        file_name = file_key(label)
        if file_name in seen:
            raise InputError(f"labels: {seen[file_name]!r} and {label!r} would get the same file name; rename one")
        seen[file_name] = label
    return tuple(labels)


def _text(name: str, value: Any, longest: int = _MAX_TEXT_LENGTH, required: bool = False) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise InputError(f"{name}: must be text of at most {longest} characters")
    if required and not (value.strip() and value.isprintable()):
        raise InputError(f"{name}: must be one line of printable text")
    return value


def _number(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{name}: must be a number, not {_shown(value)}")
    if not low <= value <= high:
        raise InputError(f"{name}: {_shown(value)} is outside {low:g} to {high:g}")
    return float(value)


def _items(name: str, value: Any, count: int, what: str) -> list[Any]:
    if isinstance(value, (str, Mapping)) or not isinstance(value, Sequence) or len(value) != count:
        raise InputError(f"{name}: must be {what}, not {_shown(value)}")
    return list(value)


def _spacing(value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = _items("spacing", value, 3, "three numbers in mm")
    # A voxel below a micrometre is a unit mistake, and would need a volume of terabytes.
    return tuple(_number("spacing", number, 0.001, _MAX_SPACING_MM) for number in numbers)


def _channels(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise InputError(f"channels: must be a list of names, one for each volume, not {_shown(value)}")
    return tuple(_text("channels", name, _MAX_LABEL_LENGTH, required=True) for name in value)


def _intensity_range(value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = _items("intensity_range", value, 2, "two HU values, low then high")
    low, high = (_number("intensity_range", number, -_MAX_HU, _MAX_HU) for number in numbers)
    if low >= high:
        raise InputError(f"intensity_range: {low:g} must be below {high:g}")
    return low, high


def _window(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    sides = _items("window", value, 3, "three whole numbers of voxels")
    for side in sides:
        if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= _MAX_WINDOW_SIDE:
            raise InputError(f"window: must be whole numbers of 1 to {_MAX_WINDOW_SIDE} voxels, not {_shown(side)}")
    if math.prod(sides) > _MAX_WINDOW_VOXELS:
        raise InputError(f"window: {sides[0]} x {sides[1]} x {sides[2]} voxels is too large for one network pass")
    return tuple(sides)


def _orientation(value: Any) -> str:
    text = value.upper() if isinstance(value, str) else ""
    if len(text) != len(_AXES) or any(sum(letter in axis for letter in text) != 1 for axis in _AXES):
        raise InputError(
            f"orientation: must be three axis codes, one each of R/L, A/P and S/I, such as RAS, not {_shown(value)}"
        )
    return text


def _mirror_axes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)) or any(isinstance(one, bool) or one not in (0, 1, 2) for one in value):
        raise InputError(f"mirror_axes: must be a list of axes among 0, 1 and 2, not {_shown(value)}")
    return tuple(value)


def _blending(value: Any) -> str:
    if not isinstance(value, str) or value not in BLENDINGS:
        raise InputError(f"blending: must be one of {', '.join(BLENDINGS)}, not {_shown(value)}")
    return value


def _colours(value: Any, labels: tuple[str, ...]) -> tuple[RGB, ...]:
    if isinstance(value, (list, tuple)) and not value:
        return tuple(structure(label).colour for label in labels)
    colours = _items("colours", value, len(labels), f"one colour for each of the {len(labels)} labels")
    triples = [_items("colours", colour, 3, "red, green and blue from 0 to 255") for colour in colours]
    for channel in (channel for triple in triples for channel in triple):
        if isinstance(channel, bool) or not isinstance(channel, int) or not 0 <= channel <= 255:
            raise InputError(f"colours: must be whole numbers from 0 to 255, not {_shown(channel)}")
    return tuple((red, green, blue) for red, green, blue in triples)


def _extra(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"extra: must be a mapping, not {_shown(value)}")
    try:
        text = json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"extra: must hold plain JSON values ({error})") from None
    if len(text) > _MAX_EXTRA_BYTES:
        raise InputError(f"extra: is larger than {_MAX_EXTRA_BYTES // 1000} kB")
    # Through JSON and back, so that a card read from its file equals the one that was written.
    return json.loads(text)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
