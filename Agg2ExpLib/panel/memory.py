"""What is saved with the scene: the panel's choices in its parameter node."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from Agg2ExpLib.panel.choices import Choices
from Agg2ExpLib.panel.results_section import OVERLAYS, Overlay

MODES = tuple(mode for mode, _, _ in OVERLAYS)


@dataclass(frozen=True)
class Kept:
    """What a scene says of the panel."""

    volume: Any = None
    regions: Any = None
    choices: Choices = field(default_factory=Choices)
    overlay: Overlay = field(default_factory=Overlay)
    explanation: str = ""
    structure: str = ""
    profile: str = ""


class Memory:
    """Reads and writes the parameter node.

    Parameters
    ----------
    parameters : callable
        Returns the parameter node of the scene as it is now: an object with the attributes ``inputVolume``,
        ``extraRegions`` (nodes), ``choices``, ``overlay``, ``explanation``, ``structure`` and ``profile`` (texts).
    """

    def __init__(self, parameters: Callable[[], Any]) -> None:
        self._parameters = parameters

    def keep(
        self,
        volume: Any,
        regions: Any,
        choices: Choices,
        overlay: Overlay,
        explanation: str,
        structure: str,
        profile: str,
    ) -> None:
        """Write everything."""
        node = self._parameters()
        node.inputVolume, node.extraRegions = volume, regions
        node.choices, node.overlay = json.dumps(asdict(choices)), json.dumps(asdict(overlay))
        node.explanation, node.structure, node.profile = explanation, structure, profile

    def recall(self) -> Kept:
        """Read everything; what a scene from elsewhere says wrongly is left at its default."""
        node = self._parameters()
        return Kept(
            node.inputVolume,
            node.extraRegions,
            _made(Choices, node.choices),
            _made(Overlay, node.overlay),
            str(node.explanation),
            str(node.structure),
            str(node.profile),
        )

    def keep_extra(self, name: str, text: str) -> None:
        """Write a text attribute of the parameter node that one section alone understands."""
        setattr(self._parameters(), name, text)

    def extra(self, name: str) -> str:
        """Read such a text."""
        return str(getattr(self._parameters(), name))


def choices_of(text: str) -> Choices:
    """Return the choices in a JSON text; what it says wrongly is left at its default."""
    made: Choices = _made(Choices, text)
    return made


def _made(kind: Any, text: str) -> Any:
    """Return an object of the fields in a JSON text that have the type of the default."""
    default = kind()
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return default
    if not isinstance(found, dict):
        return default
    kept = {}
    for name, usual in asdict(default).items():
        value = found.get(name, usual)
        if name == "structures":
            value = tuple(str(one) for one in value) if isinstance(value, list) else None
        elif name == "overlap" and not isinstance(value, (int, float)):
            value = None
        if usual is None or value is None or isinstance(value, type(usual)):
            kept[name] = value if value is not None or usual is None else usual
    if kind is Overlay and kept.get("mode") not in MODES:
        kept["mode"] = "off"
    return kind(**kept)
