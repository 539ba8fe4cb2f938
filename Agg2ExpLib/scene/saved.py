"""What a scene that was loaded from a file holds of explanations, whether their folders are still there or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from Agg2ExpLib.scene.nodes import EXPLANATION, FOLDER, PREFIX, ROLE, NodeKeeper, nodes_with

#: References of an explanation's anchor node to what it is shown with.
CT, SEGMENTATION, REGIONS, TABLE = (PREFIX + name for name in ("CT", "SegmentationNode", "RegionsNode", "Table"))


@dataclass(frozen=True)
class SavedExplanation:
    """One explanation in a scene.

    Attributes
    ----------
    key : str
        Its :func:`~Agg2ExpLib.scene.nodes.identity`.
    folder : Path
        Where its Explanation folder was; it may be gone.
    attributes : mapping of str to str
        Provenance, by attribute name without the prefix (``Method``, ``Samples``, ``ModelSHA256`` ...).
    anchor : vtkMRMLScriptedModuleNode
        The node that refers to all others.
    """

    key: str
    folder: Path
    attributes: Mapping[str, str]
    anchor: Any

    @property
    def ct_node(self) -> Any:
        """The CT volume node, None when it was removed."""
        return self.anchor.GetNodeReference(CT)

    @property
    def segmentation_node(self) -> Any:
        """The segmentation node, None when it was removed."""
        return self.anchor.GetNodeReference(SEGMENTATION)

    @property
    def regions_node(self) -> Any:
        """The segmentation node of the extra regions, None when there are none."""
        return self.anchor.GetNodeReference(REGIONS)

    @property
    def table_node(self) -> Any:
        """The importance table node, None when it was removed."""
        return self.anchor.GetNodeReference(TABLE)

    def owns(self, node: Any) -> bool:
        """Whether a node belongs to this explanation."""
        return bool(node.GetAttribute(EXPLANATION) == self.key)


def saved_in(scene: Any) -> list[SavedExplanation]:
    """Return the explanations of a scene, in the order of their nodes."""
    found = []
    for anchor in nodes_with(scene, "vtkMRMLScriptedModuleNode", {ROLE: "explanation"}):
        names = [name for name in anchor.GetAttributeNames() if name.startswith(PREFIX)]
        told = {name.removeprefix(PREFIX): anchor.GetAttribute(name) for name in names}
        key = anchor.GetAttribute(EXPLANATION)
        if key:
            found.append(SavedExplanation(key, Path(anchor.GetAttribute(FOLDER) or ""), told, anchor))
    return found


def anchor_of(keeper: NodeKeeper, title: str) -> Any:
    """Return the explanation's anchor node, added when it is not there."""
    return keeper.get("vtkMRMLScriptedModuleNode", "explanation", title)
