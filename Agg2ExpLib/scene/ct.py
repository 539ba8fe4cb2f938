"""The CT that an explanation is shown on: a node of the scene, the file that was explained, or the explanation's copy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def read_ct(explanation: Explanation) -> tuple[Volume, str]:
    """Return the scan and what it is: ``"scan"``, or ``"model grid"`` when the file is gone or no longer the same."""
    from Agg2ExpLib.volume import file_sha256, read_volume

    image = explanation.document["image"]
    text = str(image.get("path") or "")
    # The path comes from a file: one that would make Windows call another computer is not followed.
    if text and not text.startswith(("\\\\", "//")) and Path(text).exists():
        try:
            if file_sha256(text) == image["sha256"]:
                return read_volume(text), "scan"
        except InputError:
            # Unreadable is as good as gone.
            return explanation.model_image(), "model grid"
    return explanation.model_image(), "model grid"
