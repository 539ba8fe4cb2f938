"""The options of each attribution method, described so that controls can be made of them. Plain values; no Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from slicer.i18n import tr as _

from Agg2ExpLib.methods import ESTIMATORS, PATHS, SCOPES, SUPERVOXELS


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes
    ----------
    name : str
        As on the command line, without the dashes.
    kind : {"bool", "int", "float", "choice", "text"}
        What its value is; a choice is one of ``choices``.
    default : bool, int, float or str
        What is taken when the user says nothing.
    label, help : str
        Name on the surface, and what it does in one sentence.
    low, high : float
        Of a number, both allowed.
    unit : str
        Of a number.
    choices : tuple of (str, str)
        Value and name of each.
    automatic : str
        What the lowest number is called, when it stands for a choice that the method makes itself.
    """

    name: str
    kind: Literal["bool", "int", "float", "choice", "text"]
    default: bool | int | float | str
    label: str
    help: str = ""
    low: float = 0
    high: float = 1_000_000
    unit: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    automatic: str = ""

    def accepts(self, value: object) -> bool:
        """Whether a value, of a file for instance, is one of this option."""
        if self.kind == "bool":
            return isinstance(value, bool)
        if self.kind == "text":
            return isinstance(value, str)
        if self.kind == "choice":
            return value in [one for one, _name in self.choices]
        number = isinstance(value, int) or (self.kind == "float" and isinstance(value, float))
        return number and not isinstance(value, bool) and self.low <= float(value) <= self.high  # type: ignore[arg-type]


def given(options: tuple[Option, ...], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that an option has and that are not its default.

    Examples
    --------
    >>> given(options_of("smoothgrad"), {"sigma": 0.2, "path": "uniform"}), given(options_of("smoothgrad"), {"sigma": 0.1})
    ({'sigma': 0.2}, {})
    """
    known = {one.name: one for one in options}
    return {
        name: value
        for name, value in values.items()
        if name in known and known[name].accepts(value) and value != known[name].default
    }


def options_of(method: str) -> tuple[Option, ...]:
    """Return the options of a method beyond those that all have; none of an unknown one."""
    return _OPTIONS.get(method, ())


_SUPERVOXELS = Option(
    "supervoxels",
    "choice",
    "semantic",
    _("Supervoxels"),
    _("What is removed from the scan, one after the other."),
    choices=tuple((name, text) for name, (_samples, text) in SUPERVOXELS.items()),
)
_COUNT = Option(
    "supervoxel-count",
    "int",
    512,
    _("How many"),
    _("About how many regular supervoxels; the predicted structures are as many as there are."),
    low=2,
    high=100_000,
)
_OPTIONS: dict[str, tuple[Option, ...]] = {
    "smoothgrad": (
        Option(
            "sigma",
            "float",
            0.1,
            _("Noise"),
            _("Standard deviation of the noise, as a share of the range of values that the model sees."),
            high=10,
        ),
    ),
    "integrated-gradients": (
        Option(
            "path",
            "choice",
            "graded",
            _("Path"),
            _("Where on the way from an empty scan to this one the gradients are taken."),
            choices=tuple((name, name) for name in PATHS),
        ),
    ),
    "kernelshap": (
        Option(
            "samples",
            "int",
            0,
            _("Coalitions"),
            _("How many sets of supervoxels are tried; each costs a pass of the network."),
            high=100_000,
            automatic=_("as many as the supervoxels need"),
        ),
        _SUPERVOXELS,
        _COUNT,
        Option(
            "estimator",
            "choice",
            "regression",
            _("Estimator"),
            _("How the Shapley values are estimated."),
            choices=tuple(ESTIMATORS.items()),
        ),
        Option(
            "scope",
            "choice",
            "window",
            _("Played over"),
            _("One game per window of the network, or one over the whole scan."),
            choices=tuple(SCOPES.items()),
        ),
        Option("ridge", "float", 0.0, _("Ridge"), _("Penalty of the regression; 0 is none."), high=1000),
    ),
    "occlusion": (_SUPERVOXELS, _COUNT),
    "gradcam": (
        Option(
            "layer",
            "text",
            "",
            _("Layer"),
            _("Name of the network's layer that is looked at; empty takes the coarsest convolution."),
        ),
    ),
}
