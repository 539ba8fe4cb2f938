"""From a quick look to a steadier answer: what is computed then, and how long it will take. No Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from slicer.i18n import tr as _

from Agg2ExpLib.panel.words.choices import Choices

#: Methods whose time is that of so many gradients.
_GRADIENTS = ("gradient", "smoothgrad")


def refined(choices: Choices, explained: Sequence[str]) -> Choices:
    """Return what Refine asks for: SmoothGrad on what is shown, and on all that is ticked beside it."""
    ticked = choices.structures
    wanted = None if ticked is None else tuple(dict.fromkeys([*explained, *ticked]))
    own = choices.more if choices.method == "smoothgrad" else ()
    return replace(choices, method="smoothgrad", structures=wanted, more=own)


def nothing_to_refine(document: Mapping[str, Any], wanted: Choices) -> str:
    """Return why Refine would bring nothing new; empty when it does."""
    settings = document["settings"]
    explained = {entry["id"] for entry in document["classes"]}
    same = settings["method"] == wanted.method and settings.get("samples") == wanted.samples
    if same and wanted.structures is not None and explained >= set(wanted.structures):
        return _("This is SmoothGrad already: tick more structures, or ask for more samples.")
    return ""


def seconds_of(document: Mapping[str, Any], wanted: Choices) -> float | None:
    """Return how long Refine will take, from how long the shown explanation took; ``None`` when that does not tell.

    Examples
    --------
    >>> shown = {"settings": {"method": "gradient"}, "classes": [{"id": "heart", "status": "explained"}],
    ...          "model": {"labels": ["background", "heart"]}, "timings": {"attribution_seconds": 4.0, "segmentation_seconds": 2.0}}
    >>> seconds_of(shown, Choices(structures=("heart",), samples=20))
    82.0
    """
    settings, timings = document["settings"], document.get("timings", {})
    done = sum(entry["status"] == "explained" for entry in document["classes"])
    if settings["method"] not in _GRADIENTS or not done or "attribution_seconds" not in timings:
        return None
    classes = len(document["model"]["labels"]) - 1 if wanted.structures is None else len(wanted.structures)
    one = timings["attribution_seconds"] / done / (settings["samples"] if settings["method"] == "smoothgrad" else 1)
    return float(timings.get("segmentation_seconds", 0.0) + one * wanted.samples * classes)
