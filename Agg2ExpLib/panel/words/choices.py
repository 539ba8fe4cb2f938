"""What a user has chosen, checked before any process is started. Plain values; no Qt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Literal, cast, get_args

from slicer.i18n import tr as _

from Agg2ExpLib.case import REDUCTIONS
from Agg2ExpLib.device import PRECISIONS
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods import METHODS
from Agg2ExpLib.models.listing import card_of
from Agg2ExpLib.panel.words.options import bound_options
from Agg2ExpLib.request import Request, request_of

#: Identifier -> name on the surface and what it does in one sentence.
METHOD_TEXTS = {
    "gradient": (_("Gradient (fast)"), _("Gradient of the structure's summed logit: one pass, noisy.")),
    "smoothgrad": (
        _("SmoothGrad"),
        _("Mean gradient over noisy copies of the scan: steadier, as many passes as samples."),
    ),
    "integrated-gradients": (
        _("Integrated gradients"),
        _(
            "Gradients summed on the way from an empty scan to this one; they add up to the structure's logit (completeness)."
        ),
    ),
    "kernelshap": (
        _("KernelSHAP"),
        _("Each predicted structure's fair share (Shapley value) of the logit: removes structures in turn; slow."),
    ),
    "occlusion": (_("Occlusion"), _("What is lost when one predicted structure is removed and all others stay.")),
    "gradcam": (
        _("Grad-CAM"),
        _("Maps of the network's coarsest layer, weighted by how much the structure follows them."),
    ),
}
REDUCTION_TEXTS = {
    "sum": _("sum over the structure"),
    "mean": _("mean over the structure"),
    "probability": _("mean weighted by probability"),
}
#: Fills of the what-if, as ``agg2exp whatif`` knows them.
FILL_TEXTS = {
    "air": (_("air"), _("The region becomes as dark as the model knows (-1024 HU for most).")),
    "shell": (_("what is around it"), _("The region becomes the mean of a 10 mm shell around it.")),
    "noise": (_("noise"), _("The region becomes noise with the mean and spread of a 10 mm shell around it.")),
}
#: How the overlay is shown: magnitude, signed, or not at all.
Mode = Literal["magnitude", "signed", "off"]
MODES: tuple[Mode, ...] = get_args(Mode)
#: Stands for the overlap that a model's card names.
OWN_OVERLAP = -0.05

#: How many structures a quick look is at.
QUICK = 2
#: A quick comparison of methods on one scan: minutes, not the hours of a benchmark. The command has all methods and settings.
COMPARISON = {
    "methods": ("gradient", "smoothgrad=5", "integrated-gradients=5"),
    "subsets": 20,
    "copies": 1,
}


@dataclass(frozen=True)
class Choices:
    """Model, structures and settings of one explanation.

    Attributes
    ----------
    model : str
        Bundled name, folder or file.
    structures : tuple of str, optional
        Identifiers; ``None`` is every structure of the model, none at all a quick look at the :data:`QUICK` largest.
    method, reduction, precision, device
        As in :class:`~Agg2ExpLib.request.Request`.
    samples : int
        Noisy copies or path points.
    seed : int
        Of the noise.
    overlap : float, optional
        Overlap of windows; ``None`` is the model's own.
    more : tuple of (str, value)
        Options that only the method has, as :func:`~Agg2ExpLib.panel.words.options.options_of` names them; those left out have
        their default.
    """

    model: str = "thorax-phantom"
    structures: tuple[str, ...] | None = None
    method: str = "smoothgrad"
    samples: int = 20
    reduction: str = "sum"
    seed: int = 0
    precision: str = "float32"
    device: str = "auto"
    overlap: float | None = None
    more: tuple[tuple[str, Any], ...] = ()

    def problem(self) -> str:
        """Return why these choices cannot be used, in one sentence; empty when they can."""
        if not self.model:
            return _("Choose a model first.")
        if self.overlap is not None and not 0.0 <= self.overlap <= 0.9:
            return _("The overlap is {overlap}; it must be 0 to 0.9.").format(overlap=f"{self.overlap:g}")
        try:
            self.request()
        except InputError as error:
            text = str(error)
            return f"{text[:1].upper()}{text[1:]}."
        return ""

    def labels(self) -> tuple[str, ...]:
        """Return the model's structures; none of a model without a card, which tells them when it runs."""
        card = card_of(self.model)
        return card.labels if card else ()

    def request(self) -> Request:
        """Return them as the library's request, which checks itself."""
        bound = bound_options(self.method)
        return request_of(
            self.method,
            classes=self.structures or None,
            reduction=self.reduction,
            precision=self.precision,
            device=self.device,
            **{name: getattr(self, name) for name in bound},
            **dict(self.more),
        )

    def options(self) -> dict[str, Any]:
        """Return the options of ``agg2exp explain`` and ``estimate``."""
        return {
            "model": self.model,
            "classes": self.structures or None,
            "largest": QUICK if self.structures == () else None,
            "method": self.method,
            "reduction": self.reduction,
            "precision": self.precision,
            "device": self.device,
            "overlap": self.overlap,
            **{name: getattr(self, name) for name in sorted(bound_options(self.method))},
            **{name.replace("_", "-"): value for name, value in self.more},
        }


#: What a new panel asks for: an answer within a minute on a CPU.
QUICK_LOOK = Choices(structures=(), method="gradient")


def choices_of(**values: Any) -> Choices:
    """Return choices of one flat list; what is no field of theirs is an option of the method."""
    own = {one.name for one in fields(Choices)} - {"more"}
    more = tuple(sorted((name, value) for name, value in values.items() if name not in own))
    return Choices(**{name: value for name, value in values.items() if name in own}, more=more)


def method_words(method: str) -> tuple[str, str]:
    """Return a method's name and what it does; of one of another package in its own words."""
    if method in METHOD_TEXTS or method not in METHODS:
        return METHOD_TEXTS.get(method, (method, ""))
    return METHODS[method].name, METHODS[method].summary


def comparison_options(choices: Choices) -> dict[str, Any]:
    """Return the options of ``agg2exp compare-methods`` for a quick comparison with the chosen model and structures."""
    kept = ("model", "classes", "seed", "precision", "device", "overlap")
    return {name: value for name, value in choices.options().items() if name in kept} | COMPARISON


@dataclass(frozen=True)
class Overlay:
    """How the attribution is shown over the CT."""

    mode: Mode = "magnitude"
    percentile: float = 95.0
    opacity: float = 0.6
    masked: bool = False
    volume_rendering: bool = False
    coloured: bool = False


class Named(Enum):
    """A choice with a name for people; Slicer fills a drop-down list with what ``label`` says and saves the member's name."""

    def label(self) -> str:
        """Return what the list shows."""
        return str(self.value[1])


def _named(title: str, identifiers: Iterable[str], texts: Mapping[str, str]) -> Any:
    # Made at run time, because the methods are those that the library has.
    return cast(Any, Named)(title, {one: (one, texts.get(one, one)) for one in identifiers})


#: What the drop-down lists of the .ui offer.
Method = _named("Method", METHODS, {name: method_words(name)[0] for name in METHODS})
Reduction = _named("Reduction", REDUCTIONS, REDUCTION_TEXTS)
Precision = _named("Precision", PRECISIONS, {})
