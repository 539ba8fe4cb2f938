"""What was asked: a method, classes, a reduction, and where to compute. THE identity of an explanation. No torch.

A request goes to JSON and back. Resumed runs, scenes, cohorts, comparisons and reference profiles tell explanations apart by
:func:`identity_of` and by nothing else.

Examples
--------
>>> from Agg2ExpLib.methods import SmoothGrad
>>> request = Request(SmoothGrad(samples=5), classes=("heart",))
>>> Request.from_dict(request.to_dict()) == request
True
>>> request_of("gradient", samples=5)
Traceback (most recent call last):
Agg2ExpLib.errors.InputError: vanilla gradient has no option 'samples'; it has none
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.case import REDUCTIONS
from Agg2ExpLib.device import Compute
from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.methods import METHODS, Method, SmoothGrad, method_of
from Agg2ExpLib.models import Model

# Of a request, what changes how it is computed and not what comes out, beyond rounding.
_IMMATERIAL = ("classes", "device", "batch_size", "memory_budget", "recompute")
_MODEL_KEYS = (
    "name",
    "sha256",
    "labels",
    "spacing_mm",
    "orientation",
    "intensity_range",
    "window",
    "overlap",
    "blending",
)
_COMPUTE_KEYS = tuple(one.name for one in fields(Compute))

#: Name of a preset -> options by method. "paper" is what the paper's own code does.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {
        "smoothgrad": {"samples": 20, "sigma": 0.1},
        "integrated-gradients": {"samples": 20, "path": "ends"},
        "kernelshap": {"supervoxels": "semantic", "samples": 200, "estimator": "captum", "scope": "scan"},
    }
}


@dataclass(frozen=True)
class Request:
    """One explanation asked for.

    Attributes
    ----------
    method : Method
        With its options.
    classes : tuple of str, optional
        Names of the classes to explain; ``None`` means every structure (all classes but background), ``("all",)``
        background too.
    reduction : str
        The A of equation 2: a key of :data:`~Agg2ExpLib.case.REDUCTIONS`.
    compute : Compute
        Device, precision, batch size, memory.

    Raises
    ------
    InputError
        A reduction that is not known, or no class.
    """

    method: Method = field(default_factory=SmoothGrad)
    classes: tuple[str, ...] | None = None
    reduction: str = "sum"
    compute: Compute = field(default_factory=Compute)

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise InputError(f"unknown reduction {self.reduction!r}: use {', '.join(REDUCTIONS)}")
        if self.classes is not None:
            object.__setattr__(self, "classes", tuple(self.classes))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON: one flat mapping."""
        options = self.method.to_dict()
        return {
            "method": options.pop("id"),
            **options,
            "classes": list(self.classes) if self.classes is not None else None,
            "reduction": self.reduction,
            **self.compute.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Request:
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        InputError
            An option that the method does not have, or a value out of its range.
        """
        given = dict(values)
        if not isinstance(given.get("method"), str):
            raise InputError("a request names its method, such as smoothgrad")
        classes = given.pop("classes", None)
        if classes is not None and (isinstance(classes, str) or not all(isinstance(name, str) for name in classes)):
            raise InputError("classes of a request must be a list of names")
        compute = {key: given.pop(key) for key in _COMPUTE_KEYS if given.get(key) is not None}
        reduction = given.pop("reduction", "sum")
        method = method_of(given.pop("method"), **given)
        return cls(method, None if classes is None else tuple(classes), reduction, Compute(**compute))

    def class_indices(self, labels: Sequence[str]) -> list[int]:
        """Return the indices of the classes to explain, in the model's order.

        Readable names ("lung lower lobe left") serve as well as identifiers.

        Raises
        ------
        InputError
            A name that the model does not have, with the nearest ones.
        """
        if self.classes is None:
            return list(range(1, len(labels)))
        if self.classes == ("all",) and "all" not in labels:
            return list(range(len(labels)))
        known = {label: index for index, label in enumerate(labels)}
        readable = {structure(label).name: index for index, label in enumerate(labels)}
        chosen = set()
        for name in self.classes:
            index = known.get(name, readable.get(name.strip().lower()))
            if index is None:
                raise InputError(f"the model has no class {name!r}: {nearest_names(name, labels)}")
            chosen.add(index)
        if not chosen:
            raise InputError("no class to explain was given; leave --classes out to explain every structure")
        return sorted(chosen)

    @property
    def identity(self) -> dict[str, Any]:
        """What another explanation must share to be comparable."""
        return identity_of_settings(self.to_dict())


def request_of(
    method: str = "smoothgrad",
    *,
    classes: Sequence[str] | None = None,
    reduction: str = "sum",
    preset: str | None = None,
    **options: Any,
) -> Request:
    """Make a request of one flat list of values; ``None`` keeps a default.

    Parameters
    ----------
    method : str
        A key of :data:`~Agg2ExpLib.methods.METHODS`.
    classes, reduction
        See :class:`Request`.
    preset : str, optional
        A key of :data:`PRESETS`, whose options hold where none is given.
    **options
        Options of the method, and fields of :class:`~Agg2ExpLib.device.Compute`.

    Raises
    ------
    InputError
        An option that the method does not have, with its own; or a value out of its range.
    """
    given = {name: value for name, value in options.items() if value is not None}
    compute = Compute(**{key: given.pop(key) for key in _COMPUTE_KEYS if key in given})
    if preset is not None:
        if preset not in PRESETS:
            raise InputError(f"unknown preset {preset!r}: use {', '.join(PRESETS)}")
        given = {**PRESETS[preset].get(method, {}), **given}
    return Request(method_of(method, **given), None if classes is None else tuple(classes), reduction, compute)


def identity_of_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return of a flat request what results depend on; also of explanations of version 0.1, which list every method's options."""
    method = settings.get("method")
    every = {one.name for kind in METHODS.values() for one in kind.options()}
    own = {one.name for one in METHODS[method].options()} if method in METHODS else every
    kept = {key: value for key, value in settings.items() if key not in _IMMATERIAL and key not in every - own}
    if "supervoxels" in kept:
        # A map of one's own is the same wherever one stands.
        kept["supervoxels"] = Path(str(kept["supervoxels"])).name
    return kept


def model_entry(model: Model) -> dict[str, Any]:
    """Return what an explanation says of its model."""
    card = model.card
    return {
        "name": card.name,
        "path": str(model.source),
        "sha256": model.sha256,
        "labels": list(card.labels),
        "colours": [list(colour) for colour in card.colours],
        "channels": list(card.channels),
        "spacing_mm": list(card.spacing) if card.spacing else None,
        "orientation": card.orientation,
        "intensity_range": list(card.intensity_range) if card.intensity_range else None,
        "window": list(card.window) if card.window else None,
        "overlap": card.overlap,
        "blending": card.blending,
        "architecture": dict(card.architecture),
        "assumptions": list(card.assumptions),
        # How the source was loaded, and the numbers in prediction.nii.gz where they are not the classes' own.
        **{key: card.extra[key] for key in ("options", "label_values") if key in card.extra},
    }


def identity_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two explanations must share to be comparable: the model, its grid and windows, and what was asked.

    Parameters
    ----------
    document : mapping
        The contents of an ``explanation.json``: ``model`` as :func:`model_entry` writes it, ``settings`` as
        :meth:`Request.to_dict` does.
    """
    model = document["model"]
    return {
        "model": {key: model.get(key) for key in _MODEL_KEYS},
        "settings": identity_of_settings(document["settings"]),
    }


def planned_identity(model: Model, request: Request) -> dict[str, Any]:
    """Return the identity that explanations of this model and this request will have."""
    return identity_of({"model": model_entry(model), "settings": request.to_dict()})


def difference(first: Mapping[str, Any], second: Mapping[str, Any], ignore: Sequence[str] = ()) -> str:
    """Say in words how the second identity differs from the first; empty when they agree.

    Examples
    --------
    >>> difference({"model": {"sha256": "a"}, "settings": {"samples": 20}}, {"model": {"sha256": "a"}, "settings": {"samples": 5}})
    'samples is 5 instead of 20'
    """
    first, second = ({**one, "settings": identity_of_settings(one["settings"])} for one in (first, second))
    if first["model"].get("sha256") != second["model"].get("sha256"):
        names = [f"{one['model'].get('name')} ({str(one['model'].get('sha256'))[:12]})" for one in (second, first)]
        return f"the model is {names[0]} instead of {names[1]}"
    for part in ("settings", "model"):
        for key in sorted({*first[part], *second[part]} - {"name", *ignore}):
            if first[part].get(key) != second[part].get(key):
                return f"{key} is {second[part].get(key)} instead of {first[part].get(key)}"
    return ""
