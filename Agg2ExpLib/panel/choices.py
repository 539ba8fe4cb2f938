"""What a user has chosen, checked before any process is started. Plain values; no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from Agg2ExpLib.attribution import METHODS, REDUCTIONS
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation.settings import PRECISIONS, Settings

#: Identifier -> name on the surface and what it does in one sentence.
METHOD_TEXTS = {
    "gradient": ("Plain gradient (fast)", "Gradient of the structure's summed logit: one pass, noisy."),
    "smoothgrad": ("SmoothGrad", "Mean gradient over noisy copies of the scan: steadier, as many passes as samples."),
    "integrated-gradients": (
        "Integrated gradients",
        "Gradients summed on the way from an empty scan to this one; they add up to the structure's logit (completeness).",
    ),
}
REDUCTION_TEXTS = {
    "sum": "sum of the logits over the structure",
    "mean": "mean of the logits over the structure",
    "probability": "mean weighted by probability",
}
#: Fills of the what-if, as ``agg2exp whatif`` knows them.
FILL_TEXTS = {
    "air": ("air", "The region becomes as dark as the model knows (-1024 HU for most)."),
    "shell": ("what is around it", "The region becomes the mean of a 10 mm shell around it."),
    "noise": ("noise", "The region becomes noise with the mean and spread of a 10 mm shell around it."),
}

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
        Identifiers; ``None`` is every structure of the model.
    method, reduction, precision, device
        As in :class:`~Agg2ExpLib.explanation.Settings`.
    samples : int
        Noisy copies or path points.
    seed : int
        Of the noise.
    overlap : float, optional
        Overlap of windows; ``None`` is the model's own.
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

    def problem(self) -> str:
        """Return why these choices cannot be used, in one sentence; empty when they can."""
        if not self.model:
            return "Choose a model first."
        if self.structures is not None and not self.structures:
            return "Tick at least one structure to explain."
        if self.overlap is not None and not 0.0 <= self.overlap <= 0.9:
            return f"The overlap is {self.overlap:g}; it must be 0 to 0.9."
        try:
            self.settings()
        except InputError as error:
            text = str(error)
            return f"{text[:1].upper()}{text[1:]}."
        return ""

    def settings(self) -> Settings:
        """Return them as the library's settings, which check themselves."""
        return Settings(
            method=self.method,
            classes=self.structures,
            samples=self.samples,
            reduction=self.reduction,
            seed=self.seed,
            precision=self.precision,
            device=self.device,
        )

    def options(self) -> dict[str, Any]:
        """Return the options of ``agg2exp explain`` and ``estimate``."""
        return {
            "model": self.model,
            "classes": self.structures,
            "method": self.method,
            "samples": self.samples if METHODS[self.method].samples else None,
            "reduction": self.reduction,
            "seed": self.seed,
            "precision": self.precision,
            "device": self.device,
            "overlap": self.overlap,
        }


def comparison_options(choices: Choices) -> dict[str, Any]:
    """Return the options of ``agg2exp compare-methods`` for a quick comparison with the chosen model and structures."""
    kept = ("model", "classes", "seed", "precision", "device", "overlap")
    return {name: value for name, value in choices.options().items() if name in kept} | COMPARISON


def method_names() -> list[tuple[str, str, str]]:
    """Return (identifier, name, sentence) of every method that the library has."""
    return [(name, *METHOD_TEXTS.get(name, (name, ""))) for name in METHODS]


def reduction_names() -> list[tuple[str, str]]:
    """Return (identifier, words) of every reduction."""
    return [(name, REDUCTION_TEXTS.get(name, name)) for name in REDUCTIONS]


def precision_names() -> tuple[str, ...]:
    """Return every precision."""
    return PRECISIONS
