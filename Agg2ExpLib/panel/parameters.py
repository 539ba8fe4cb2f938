"""What is saved with the scene: the panel's choices in its parameter node, most of them bound to widgets by the .ui."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from Agg2ExpLib.panel.words.choices import MODES, Choices, Overlay
from Agg2ExpLib.panel.words.options import given, options_of


class Parameters:
    """Reads and writes the parameter node.

    Attributes
    ----------
    node : Agg2ExpParameterNode or None
        That of the scene as it is now; ``None`` while a scene is closed or loaded.
    restoring : bool
        Whether the panel shows just now what the node says.
    """

    def __init__(self) -> None:
        self.node: Any = None
        self.restoring = False

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Show what the node says: what widgets say meanwhile is not :meth:`remember`-ed."""
        before, self.restoring = self.restoring, True
        try:
            yield
        finally:
            self.restoring = before

    def remember(self, **fields: Any) -> None:
        """Write what the user did: nothing while the panel shows what the node says."""
        if not self.restoring:
            self.keep(**fields)

    def keep(self, **fields: Any) -> None:
        """Write some fields, those that have changed."""
        if self.node is None:
            return
        import slicer.util

        with slicer.util.NodeModify(self.node):
            for name, value in fields.items():
                if getattr(self.node, name) != value:
                    setattr(self.node, name, value)

    def keep_structures(self, ticked: tuple[str, ...] | None) -> None:
        """Write which structures are ticked; ``None`` is every one."""
        self.keep(allStructures=ticked is None, structures=list(ticked or ()))

    def choices(self) -> Choices:
        """Return model, structures and settings."""
        node = self.node
        if node is None:
            return Choices()
        return Choices(
            model=node.model,
            structures=None if node.allStructures else tuple(node.structures),
            method=node.method.name,
            samples=node.samples,
            reduction=node.reduction.name,
            seed=node.seed,
            precision=node.precision.name,
            device=node.device,
            overlap=None if node.overlap < 0 else node.overlap,
            more=tuple(sorted(given(options_of(node.method.name), self._options().get(node.method.name, {})).items())),
        )

    def remember_options(self, method: str, values: Mapping[str, Any]) -> None:
        """Write the options that only one method has; those of the others stay."""
        self.remember(methodOptions=json.dumps(self._options() | {method: dict(values)}))

    def _options(self) -> dict[str, dict[str, Any]]:
        """Return method -> its options, of a text that may come from elsewhere."""
        try:
            found = json.loads(self.node.methodOptions or "{}")
        except (ValueError, RecursionError):
            return {}
        pairs = found.items() if isinstance(found, dict) else ()
        return {method: values for method, values in pairs if isinstance(values, dict)}

    def overlay(self) -> Overlay:
        """Return how the attribution is shown; a scene from elsewhere may name a mode that there is not."""
        node = self.node
        if node is None:
            return Overlay()
        return Overlay(
            mode=node.overlay if node.overlay in MODES else "off",
            percentile=node.hideWeakest,
            opacity=node.opacity,
            masked=node.onlyInsideSegments,
            volume_rendering=node.volumeRendering,
            coloured=node.colourSegments,
        )
