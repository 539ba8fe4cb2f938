"""Nodes that belong to one explanation: found by their attributes, added once, with their origin.

A node is never looked for by its name: names are for people, who change them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from Agg2ExpLib.errors import InputError

if TYPE_CHECKING:
    from Agg2ExpLib.explanation import Explanation

DOCUMENT = "explanation.json"
PREFIX = "Agg2Exp."
EXPLANATION = PREFIX + "Explanation"
ROLE = PREFIX + "Role"
CLASS = PREFIX + "Class"
MODE = PREFIX + "Mode"
MEASURE = PREFIX + "Measure"
UNITS = PREFIX + "Units"
FOLDER = PREFIX + "Folder"
METHOD = PREFIX + "Method"
IMAGE_SHA256 = PREFIX + "ImageSHA256"

#: What every node of an explanation carries, as :func:`provenance` writes it.
PROVENANCE = (
    EXPLANATION,
    FOLDER,
    IMAGE_SHA256,
    *(PREFIX + name for name in ("Image", "ModelName", "ModelSHA256")),
    METHOD,
    *(PREFIX + name for name in ("Samples", "Seed", "Settings", "Created", "FormatVersion", "Versions")),
)

# Where and how fast it was computed does not make it another explanation.
_NOT_IDENTITY = ("device", "batch_size", "memory_budget", "recompute")


def identity(explanation: Explanation) -> str:
    """Return what tells an explanation from others, 16 hexadecimal digits: scan, model, settings and regions.

    The folder does not count, so that an explanation is known again when it was moved or computed once more.
    """
    document = explanation.document
    settings = {key: value for key, value in document["settings"].items() if key not in _NOT_IDENTITY}
    regions = [[entry["id"], entry.get("sha256", ""), entry.get("voxels", 0)] for entry in document["regions"]]
    parts = [document["image"]["sha256"], document["model"]["sha256"], settings, regions]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def provenance(explanation: Explanation) -> dict[str, str]:
    """Return the attributes that every node of an explanation carries.

    Raises
    ------
    InputError
        The explanation's document does not say what was explained, by what and how.
    """
    try:
        told = _told(explanation)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{explanation.folder / DOCUMENT} lacks {error}; repeat the explanation") from error
    return {key: "" if value is None else str(value) for key, value in told.items()}


def _told(explanation: Explanation) -> dict[str, Any]:
    document = explanation.document
    settings, model, image = document["settings"], document["model"], document["image"]
    return {
        EXPLANATION: identity(explanation),
        FOLDER: str(explanation.folder.resolve()),
        IMAGE_SHA256: image["sha256"],
        PREFIX + "Image": image.get("name", ""),
        PREFIX + "ModelName": model.get("name", ""),
        PREFIX + "ModelSHA256": model["sha256"],
        METHOD: settings["method"],
        PREFIX + "Samples": settings.get("samples", ""),
        PREFIX + "Seed": settings.get("seed", ""),
        PREFIX + "Settings": json.dumps(settings, sort_keys=True),
        PREFIX + "Created": document.get("created", ""),
        PREFIX + "FormatVersion": document["format_version"],
        PREFIX + "Versions": json.dumps(document.get("versions", {}), sort_keys=True),
    }


def told_by(node: Any) -> dict[str, str]:
    """Return the provenance that a node carries, also when the explanation's folder is gone."""
    return {key: value for key in PROVENANCE if (value := node.GetAttribute(key)) is not None}


def nodes_with(scene: Any, class_name: str, attributes: dict[str, str]) -> Iterator[Any]:
    """Yield the nodes of a class that have all these attributes."""
    for index in range(scene.GetNumberOfNodesByClass(class_name)):
        node = scene.GetNthNodeByClass(index, class_name)
        if all(node.GetAttribute(key) == value for key, value in attributes.items()):
            yield node


class NodeKeeper:
    """The nodes of one explanation in one scene.

    Parameters
    ----------
    scene : vtkMRMLScene
        Where they are.
    told : mapping
        :func:`provenance` of the explanation.
    """

    def __init__(self, scene: Any, told: dict[str, str]) -> None:
        self.scene, self.told = scene, told

    @property
    def key(self) -> str:
        """The explanation's :func:`identity`."""
        return self.told[EXPLANATION]

    def find(self, class_name: str, role: str, **attributes: str) -> Any:
        """Return the node of that role, or None; ``attributes`` are written without the prefix."""
        wanted = {EXPLANATION: self.key, ROLE: role} | {PREFIX + key: value for key, value in attributes.items()}
        return next(nodes_with(self.scene, class_name, wanted), None)

    def all(self, class_name: str, role: str) -> list[Any]:
        """Return every node of that role."""
        return list(nodes_with(self.scene, class_name, {EXPLANATION: self.key, ROLE: role}))

    def get(self, class_name: str, role: str, name: str, **attributes: str) -> Any:
        """Return the node of that role; it is added, with its name, when it is not there."""
        node = self.find(class_name, role, **attributes)
        if node is None:
            node = self.scene.CreateNodeByClass(class_name)
            # The scene's factory hands over a reference of its own.
            node.UnRegister(None)
            node.SetName(self.scene.GenerateUniqueName(name) if self.scene.GetFirstNodeByName(name) else name)
            self.mark(node, role, **attributes)
            node = self.scene.AddNode(node)
        else:
            self.mark(node, role, **attributes)
        return node

    def mark(self, node: Any, role: str, **attributes: str) -> None:
        """Write provenance, role and further attributes to a node."""
        for key, value in {**self.told, ROLE: role}.items():
            node.SetAttribute(key, value)
        for key, value in attributes.items():
            node.SetAttribute(PREFIX + key, value)

    def display(self, node: Any, class_name: str) -> Any:
        """Return the node's display node of that class, which is added when it has none."""
        for index in range(node.GetNumberOfDisplayNodes()):
            shown = node.GetNthDisplayNode(index)
            if shown is not None and shown.IsA(class_name):
                return shown
        shown = self.scene.AddNewNodeByClass(class_name)
        node.AddAndObserveDisplayNodeID(shown.GetID())
        return shown
