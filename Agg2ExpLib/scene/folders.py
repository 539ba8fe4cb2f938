"""The explanation's folder in the subject hierarchy: one folder beside the CT, with one inside for each kind of node."""

from __future__ import annotations

from typing import Any

from Agg2ExpLib.scene.nodes import EXPLANATION, ROLE, NodeKeeper

#: Role -> subfolder; other nodes lie in the explanation's own folder.
SUBFOLDERS = {
    "overlay": "Attributions",
    "overlay-colours": "Colour tables",
    "importance-colours": "Colour tables",
    "importance-legend": "Importance",
    "volume-legend": "Attributions",
    "volume-property": "Attributions",
    "table": "Importance",
    "chart-table": "Importance",
    "chart-series": "Importance",
    "chart": "Importance",
    "reference-table": "Anomaly",
    "reference-series": "Anomaly",
    "reference-chart": "Anomaly",
    "anomaly-colours": "Colour tables",
    "anomaly-legend": "Anomaly",
    "surface": "Surfaces",
    "surface-colours": "Colour tables",
    "graph": "Graph",
    "graph-centres": "Graph",
    "graph-labels": "Graph",
    "graph-colours": "Colour tables",
}


def hierarchy_of(scene: Any) -> Any:
    """Return the scene's subject hierarchy node, which is made when there is none."""
    import slicer

    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def file_away(keeper: NodeKeeper, title: str, beside: Any) -> int:
    """Put the explanation's nodes into its folder; return the folder's item.

    Parameters
    ----------
    keeper : NodeKeeper
        The explanation's nodes.
    title : str
        Name of the folder when it is made.
    beside : vtkMRMLNode
        The CT: the folder goes to the study or folder that it lies in.
    """
    hierarchy = hierarchy_of(keeper.scene)
    folder = find_folder(keeper)
    if not folder:
        item = hierarchy.GetItemByDataNode(beside) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), beside)
        folder = _make(hierarchy, hierarchy.GetItemParent(item), title, keeper.key, "folder")
    for index in range(keeper.scene.GetNumberOfNodes()):
        node = keeper.scene.GetNthNode(index)
        role = node.GetAttribute(ROLE)
        if node.GetAttribute(EXPLANATION) != keeper.key or not role or role in ("ct", "explanation"):
            continue
        parent = folder
        if role in SUBFOLDERS:
            name = SUBFOLDERS[role]
            parent = _child(hierarchy, folder, name) or _make(hierarchy, folder, name, keeper.key, name)
        _place(hierarchy, node, parent)
    return int(folder)


def find_folder(keeper: NodeKeeper) -> int:
    """Return the item of the explanation's folder, 0 when it has none."""
    from vtkmodules.vtkCommonCore import vtkIdList

    hierarchy, items = hierarchy_of(keeper.scene), vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    for index in range(items.GetNumberOfIds()):
        item = items.GetId(index)
        mine = hierarchy.GetItemAttribute(item, EXPLANATION) == keeper.key
        if mine and hierarchy.GetItemAttribute(item, ROLE) == "folder":
            return int(item)
    return 0


def remove_all(keeper: NodeKeeper) -> None:
    """Remove the explanation's nodes, with what displays and stores them, but the CT; and its folder."""
    scene, hierarchy = keeper.scene, hierarchy_of(keeper.scene)
    folder = find_folder(keeper)
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    for node in nodes:
        if node.GetAttribute(EXPLANATION) != keeper.key or node.GetAttribute(ROLE) == "ct":
            continue
        count = node.GetNumberOfDisplayNodes() if hasattr(node, "GetNumberOfDisplayNodes") else 0
        for helper in [node.GetNthDisplayNode(index) for index in range(count)]:
            if helper is not None:
                scene.RemoveNode(helper)
        # First the node: the desktop looks for the items of its segments meanwhile, and complains when they are gone.
        scene.RemoveNode(node)
        # Outside of the desktop an item outlives its node, and a folder with such an item cannot be removed.
        item = hierarchy.GetItemByDataNode(node)
        if item:
            hierarchy.RemoveItem(item, False, False)
    if folder:
        hierarchy.RemoveItem(folder)


def _make(hierarchy: Any, parent: int, name: str, key: str, role: str) -> int:
    item = hierarchy.CreateFolderItem(parent, name)
    hierarchy.SetItemAttribute(item, EXPLANATION, key)
    hierarchy.SetItemAttribute(item, ROLE, role)
    return int(item)


def _child(hierarchy: Any, folder: int, role: str) -> int:
    from vtkmodules.vtkCommonCore import vtkIdList

    items = vtkIdList()
    hierarchy.GetItemChildren(folder, items)
    for index in range(items.GetNumberOfIds()):
        if hierarchy.GetItemAttribute(items.GetId(index), ROLE) == role:
            return int(items.GetId(index))
    return 0


def _place(hierarchy: Any, node: Any, parent: int) -> None:
    item = hierarchy.GetItemByDataNode(node)
    if not item:
        hierarchy.CreateItem(parent, node)
        return
    # A node that somebody has moved into a folder of their own stays there.
    if hierarchy.GetItemParent(item) == hierarchy.GetSceneItemID():
        hierarchy.SetItemParent(item, parent)
