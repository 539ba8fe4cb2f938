"""The CT that an explanation is shown on: a node of the scene, the file that was explained, or the explanation's copy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.scene.nodes import IMAGE_SHA256, PREFIX, ROLE, NodeKeeper, nodes_with
from Agg2ExpLib.scene.saved import CT
from Agg2ExpLib.scene.volumes import coded, fill_volume_node

if TYPE_CHECKING:
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.volume import Volume

SOURCE = PREFIX + "CTSource"
#: Window and level in HU that show lung vessels and soft tissue at once.
WINDOW, LEVEL = 1400.0, -150.0


def ct_for(keeper: NodeKeeper, explanation: Explanation, anchor: Any, given: Any) -> Any:
    """Return the CT's volume node; a given one is left as it is, and two explanations of one scan share theirs."""
    if given is not None:
        return given
    sha256 = keeper.told[IMAGE_SHA256]
    node = anchor.GetNodeReference(CT)
    node = node or next(nodes_with(keeper.scene, "vtkMRMLScalarVolumeNode", {ROLE: "ct", IMAGE_SHA256: sha256}), None)
    if node is not None and node.GetImageData() is not None:
        return node
    node = _loaded_already(keeper.scene, explanation)
    if node is not None:
        return node
    volume, source = read_ct(explanation)
    name = explanation.document["image"].get("name") or "CT"
    node = keeper.get("vtkMRMLScalarVolumeNode", "ct", f"CT {name}".removesuffix(".nii.gz"))
    fill_volume_node(node, volume)
    node.SetAttribute(SOURCE, source)
    node.SetVoxelValueUnits(coded("[hnsf'U]", "UCUM", "Hounsfield unit"))
    node.SetVoxelValueQuantity(coded("112031", "DCM", "Attenuation Coefficient"))
    display = keeper.display(node, "vtkMRMLScalarVolumeDisplayNode")
    # Slicer's own grey table has this identifier in every scene of the desktop.
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    display.AutoWindowLevelOff()
    display.SetWindowLevel(WINDOW, LEVEL)
    return node


def _loaded_already(scene: Any, explanation: Explanation) -> Any:
    """Return the volume that somebody has loaded from the very file that was explained, and not changed since."""
    image = explanation.document["image"]
    path = str(image.get("path") or "")
    for node in nodes_with(scene, "vtkMRMLScalarVolumeNode", {}) if path else ():
        storage = node.GetStorageNode()
        if storage is None or storage.GetFileName() is None or node.GetImageData() is None:
            continue
        if node.IsA("vtkMRMLLabelMapVolumeNode"):
            continue
        changed = node.GetModifiedSinceRead() or not _lies_as(node, image)
        if Path(storage.GetFileName()).resolve() == Path(path) and not changed and _is_same(image):
            return node
    return None


def _lies_as(node: Any, image: Mapping[str, Any]) -> bool:
    """Tell whether a volume lies where the file says: Slicer can be asked to centre what it loads."""
    from Agg2ExpLib.scene.volumes import matrix_of

    wanted, here = matrix_of(np.asarray(image["affine"], dtype=float)), matrix_of(np.eye(4))
    node.GetIJKToRASMatrix(here)
    pairs = [(wanted.GetElement(i, j), here.GetElement(i, j)) for i in range(4) for j in range(4)]
    same_grid = list(node.GetImageData().GetDimensions()) == list(image["shape"])
    return same_grid and all(abs(first - second) < 1e-3 for first, second in pairs)


def _is_same(image: Mapping[str, Any]) -> bool:
    """Tell whether the file at an explanation's path is still the scan that was explained."""
    from Agg2ExpLib.volume import file_sha256

    text = str(image.get("path") or "")
    # The path comes from a file: one that would make Windows call another computer is not followed.
    if not text or text.startswith(("\\\\", "//")) or not Path(text).exists():
        return False
    try:
        return file_sha256(text) == str(image["sha256"])
    except InputError:
        # Unreadable is as good as gone.
        return False


def read_ct(explanation: Explanation) -> tuple[Volume, str]:
    """Return the scan and what it is: ``"scan"``, or ``"model grid"`` when the file is gone or no longer the same."""
    from Agg2ExpLib.volume import read_volume

    image = explanation.document["image"]
    if _is_same(image):
        try:
            return read_volume(str(image["path"])), "scan"
        except InputError:
            return explanation.model_image(), "model grid"
    return explanation.model_image(), "model grid"
