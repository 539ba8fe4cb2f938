"""One explanation in a scene: everything that can be shown of it, each a method that may be called again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.scene import graph, overlay, saved, segments, selection, surfaces, tables, views, volume_rendering
from Agg2ExpLib.scene.ct import ct_for
from Agg2ExpLib.scene.folders import file_away, remove_all
from Agg2ExpLib.scene.legend import carry_legend, hide_legend, show_importance_legend
from Agg2ExpLib.scene.nodes import NodeKeeper, provenance

if TYPE_CHECKING:
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.volume import Volume

Measure = Literal["mass", "enrichment"]


def show_explanation(
    explanation: Explanation,
    scene: Any,
    *,
    name: str | None = None,
    ct_node: Any = None,
    segmentation_node: Any = None,
) -> SceneExplanation:
    """Show an explanation's CT, segments and importance table, or update them; return what shows the rest.

    Parameters
    ----------
    explanation : Explanation
        A folder that was read.
    scene : vtkMRMLScene
        ``slicer.mrmlScene``, or :func:`new_scene`.
    name : str, optional
        Name of the explanation's folder in the subject hierarchy.
    ct_node : vtkMRMLScalarVolumeNode, optional
        The scan, when it is in the scene already. Else the file that was explained is read, or when it is gone the
        explanation's own copy on the model's grid.
    segmentation_node : vtkMRMLSegmentationNode, optional
        Gets the predicted structures; a new one by default.

    Raises
    ------
    InputError
        The folder lacks something, in one sentence.
    """
    keeper = NodeKeeper(scene, provenance(explanation))
    title = name or f"Explanation of {explanation.document['image'].get('name') or 'a CT'}"
    prediction = explanation.prediction()
    anchor = saved.anchor_of(keeper, title)
    ct = ct_for(keeper, explanation, anchor, ct_node)
    anchor.SetNodeReferenceID(saved.CT, ct.GetID())
    shown = SceneExplanation(explanation, keeper, anchor)
    _show_segments(shown, prediction, segmentation_node)
    _show_regions(shown)
    table = tables.table_node(keeper, explanation.importance)
    anchor.SetNodeReferenceID(saved.TABLE, table.GetID())
    views.show_in_slices(scene, ct, None, 0.0)
    shown.file_away()
    return shown


def find(scene: Any, explanation: Explanation) -> SceneExplanation | None:
    """Return what a scene shows of an explanation already, also after it was saved and loaded; None for nothing."""
    keeper = NodeKeeper(scene, provenance(explanation))
    anchor = keeper.find("vtkMRMLScriptedModuleNode", "explanation")
    return SceneExplanation(explanation, keeper, anchor) if anchor is not None else None


class SceneExplanation:
    """An explanation that is in a scene. Made by :func:`show_explanation` and :func:`find`.

    Attributes
    ----------
    explanation : Explanation
        What is shown.
    keeper : NodeKeeper
        Finds its nodes.
    anchor : vtkMRMLScriptedModuleNode
        Refers to CT, segmentation, regions and table.
    """

    def __init__(self, explanation: Explanation, keeper: NodeKeeper, anchor: Any) -> None:
        self.explanation, self.keeper, self.anchor = explanation, keeper, anchor

    @property
    def scene(self) -> Any:
        """The vtkMRMLScene."""
        return self.keeper.scene

    @property
    def key(self) -> str:
        """The explanation's identity: value of the attribute ``Agg2Exp.Explanation`` of all its nodes."""
        return self.keeper.key

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes that have an attribution."""
        return self.explanation.explained

    @property
    def ct_node(self) -> Any:
        """The CT (vtkMRMLScalarVolumeNode), None when somebody removed it."""
        return self.anchor.GetNodeReference(saved.CT)

    @property
    def segmentation_node(self) -> Any:
        """The predicted structures (vtkMRMLSegmentationNode), None when somebody removed them."""
        return self.anchor.GetNodeReference(saved.SEGMENTATION)

    @property
    def regions_node(self) -> Any:
        """The extra regions (vtkMRMLSegmentationNode), None without any."""
        return self.anchor.GetNodeReference(saved.REGIONS)

    @property
    def table_node(self) -> Any:
        """The importance table (vtkMRMLTableNode), None when somebody removed it."""
        return self.anchor.GetNodeReference(saved.TABLE)

    def overlay_node(self, name: str, mode: overlay.Mode = "magnitude") -> Any:
        """Return the overlay volume of a class, None before it was shown."""
        return self.keeper.find("vtkMRMLScalarVolumeNode", "overlay", Class=name, Mode=mode)

    def show_overlay(
        self,
        name: str | None,
        mode: Literal["magnitude", "signed", "off"] = "magnitude",
        *,
        percentile: float = 97.0,
        opacity: float = 0.7,
        masked_segments: Sequence[str] | None = None,
        mask: np.ndarray | None = None,
    ) -> Any:
        """Show a class's attribution over the CT in every slice view, with its legend; return the volume node.

        Parameters
        ----------
        name : str
            An explained class; may be None when the mode is ``"off"``.
        mode : {"magnitude", "signed", "off"}
            Strength |E|; against and for the class; or no overlay.
        percentile : float
            Attributions weaker than this percentile of |E| are transparent, 0 to 100.
        opacity : float
            Of the overlay over the CT, 0 to 1.
        masked_segments : sequence of str, optional
            Classes or extra regions: the overlay is shown inside them only.
        mask : ndarray of bool, optional
            Any other mask, on the grid of the attribution, shape (i, j, k).

        Raises
        ------
        InputError
            A class without attribution, an unknown region, a percentile out of range.
        """
        overlay.hide_legends(self.keeper)
        if mode == "off":
            if views.in_slices(self.scene, self.keeper.all("vtkMRMLScalarVolumeNode", "overlay")):
                views.show_in_slices(self.scene, self.ct_node, None, 0.0)
            return None
        node, _ = self._overlay(name, mode, percentile, self._mask(masked_segments, mask), masked_segments)
        views.show_in_slices(self.scene, self.ct_node, node, opacity)
        overlay.show_legend(node.GetDisplayNode(), overlay.legend_title(node), visible=True, space=False)
        return node

    def colour_segments(self, name: str | None, measure: Measure = "mass", *, top: float | None = None) -> float:
        """Colour the segments by their importance for a class; for None by structure, as at first.

        Parameters
        ----------
        name : str or None
            An explained class.
        measure : {"mass", "enrichment"}
            Share of the attribution, or times an average region of that size.
        top : float, optional
            The importance from which on the colour is the brightest; by default the largest of other regions than background
            and the class itself, which would use up the scale.

        Returns
        -------
        float
            The importance of the brightest colour; 0 for None.
        """
        nodes = [node for node in (self.segmentation_node, self.regions_node) if node is not None]
        if name is None:
            for node in nodes:
                segments.colour_by_structure(node, self.key)
            show_importance_legend(self.keeper, None, measure, 0.0)
            return 0.0
        self.check_class(name)
        tables.check_measure(measure)
        row = tables.row_of(self.explanation.importance, name, measure)
        best = tables.strongest(self.explanation.importance, name, measure, 1, without=("background", name))
        top = top or (best[0][1] if best else 1.0)
        for node in nodes:
            segments.colour_by_value(node, self.key, row, top)
        show_importance_legend(self.keeper, name, measure, top)
        self.file_away()
        return top

    def show_chart(self, name: str, measure: Measure = "mass", count: int = 8) -> Any:
        """Return the bar chart (vtkMRMLPlotChartNode) of the regions that matter most for a class, made or updated."""
        self.check_class(name)
        chart = tables.chart_nodes(self.keeper, self.explanation.importance, name, measure, count)
        self.file_away()
        return chart

    def readable_table(self, name: str) -> Any:
        """Return a table (vtkMRMLTableNode) of one class for people, made or updated: regions by share, in words."""
        self.check_class(name)
        return tables.readable_node(self.keeper, self.explanation.importance, name)

    def show_surface(self, name: str, structures: Sequence[str] | None = None, *, visible: bool = True) -> list[Any]:
        """Show closed surfaces with the class's attribution on them; return the vtkMRMLModelNodes.

        Parameters
        ----------
        name : str
            An explained class.
        structures : sequence of str, optional
            Whose surfaces; by default the class's own and its three strongest sources'.
        visible : bool
            False hides every such surface of the explanation.
        """
        self._hide("surface")
        if not visible:
            return []
        self.check_class(name)
        if structures is None:
            best = tables.strongest(self.explanation.importance, name, "mass", 3, without=("background", name))
            structures = [name, *(source for source, _ in best)]
        attribution = self._attribution(name)
        found = []
        for node in (self.segmentation_node, self.regions_node):
            if node is not None:
                found += surfaces.surface_nodes(self.keeper, node, attribution, name, list(structures))
        for node in found:
            node.GetDisplayNode().SetVisibility(True)
        self.file_away()
        return found

    def show_volume_rendering(
        self, name: str, *, percentile: float = 98.0, opacity: float = 0.5, visible: bool = True
    ) -> Any:
        """Show a class's |E| as a glow in the 3D view; return the volume rendering display node."""
        volume_rendering.hide_renderings(self.keeper)
        hide_legend(self.keeper, "volume-legend")
        if not visible:
            return None
        node = self.overlay_node(name) or self._overlay(name, "magnitude", percentile, None, None)[0]
        window = overlay.robust_window(self._attribution(name).voxels, percentile)
        display = volume_rendering.render_volume(self.keeper, node, window, name, opacity=opacity)
        table = overlay.table_of(self.keeper, name, "magnitude")
        carry_legend(
            self.keeper,
            "volume-legend",
            "Volume rendering, legend",
            table,
            window.top,
            overlay.legend_title(node),
            flat=False,
        )
        self.file_away()
        return display

    def show_graph(
        self,
        names: str | Sequence[str] | None,
        measure: Measure = "mass",
        *,
        count: int = 3,
        visible: bool = True,
    ) -> list[Any]:
        """Show the importance graph in space: a tube per class and source, from centre to centre; return the nodes.

        Parameters
        ----------
        names : str, sequence of str or None
            Explained classes; all of them for None.
        measure : {"mass", "enrichment"}
            What width and colour of the tubes tell.
        count : int
            Sources per class, strongest first. Background and the class itself are no sources here.
        visible : bool
            False hides the graph.
        """
        for role in ("graph", "graph-centres", "graph-labels"):
            self._hide(role)
        if not visible:
            return []
        tables.check_measure(measure)
        wanted = self.classes if names is None else (names,) if isinstance(names, str) else tuple(names)
        for name in wanted:
            self.check_class(name)
        table = self.explanation.importance
        edges = {name: tables.strongest(table, name, measure, count, without=("background", name)) for name in wanted}
        top = max((value for found in edges.values() for _, value in found), default=1.0)
        nodes: list[Any] = []
        for name, found in edges.items():
            nodes += graph.graph_nodes(self.keeper, name, found, self.centres, measure, top)
        for node in nodes:
            node.SetAndObserveTransformNodeID(self._transform)
            node.SetDisplayVisibility(True)
        self.file_away()
        return nodes

    def strongest_position(self, name: str) -> tuple[float, float, float]:
        """Return where |E| of a class is largest, RAS millimetres in the world (the CT's transform is applied)."""
        attribution = self._attribution(name)
        at = np.unravel_index(int(np.argmax(np.abs(attribution.voxels))), attribution.shape)
        return self.in_world([float(part) for part in attribution.grid.index_to_world(at)])

    def in_world(self, point: list[float]) -> tuple[float, float, float]:
        """Return a point with the CT's transform applied."""
        ct = self.ct_node
        if ct is not None and ct.GetParentTransformNode() is not None:
            world = [0.0, 0.0, 0.0]
            ct.TransformPointToWorld(point, world)
            point = world
        return point[0], point[1], point[2]

    def go_to_strongest(self, name: str) -> tuple[float, float, float]:
        """Centre every slice view on :meth:`strongest_position` and return it."""
        position = self.strongest_position(name)
        views.jump_to(self.scene, position)
        return position

    def strongest_in(self, name: str, region: str) -> tuple[float, float, float] | None:
        """Return where |E| of a class is largest within a structure or region, RAS in the world; None without a voxel."""
        values = np.abs(self._attribution(name).voxels)
        box: tuple[slice, ...] = (slice(None),) * 3
        if region in self.explanation.regions:
            inside = self.explanation.region(region).voxels > 0
        elif region in self.explanation.labels:
            index = self.explanation.labels.index(region)
            box = (self._boxes.get(index) or box) if index else box
            inside = self._labels.voxels[box] == index
        else:
            return None
        if not inside.any():
            return None
        at = np.unravel_index(int(np.argmax(np.where(inside, values[box], -1.0))), inside.shape)
        index_in_scan = [int(part) + (side.start or 0) for part, side in zip(at, box, strict=True)]
        return self.in_world([float(part) for part in self._attribution(name).grid.index_to_world(index_in_scan)])

    @cached_property
    def _boxes(self) -> dict[int, tuple[slice, ...]]:
        from scipy.ndimage import find_objects

        found = find_objects(self._labels.voxels.astype(np.int32, copy=False))
        return {index: box for index, box in enumerate(found, start=1) if box is not None}

    def region_at(self, position: Sequence[float]) -> str:
        """Return the region, else the structure, at a RAS position of the world; empty outside of the scan."""
        ct, point = self.ct_node, [float(part) for part in position]
        if ct is not None and ct.GetParentTransformNode() is not None:
            local = [0.0, 0.0, 0.0]
            ct.TransformPointFromWorld(point, local)
            point = local
        at = np.rint(self._labels.grid.world_to_index(point)).astype(int)
        if (at < 0).any() or (at >= self._labels.shape).any():
            return ""
        place = tuple(int(part) for part in at)
        inside = (name for name in self.explanation.regions if self.explanation.region(name).voxels[place] > 0)
        return next(inside, self.explanation.labels[int(self._labels.voxels[place])])

    def select(self, name: str, region: str, position: Sequence[float] | None) -> None:
        """Emphasise the outline of a structure or region and put a mark at a position; None takes the mark away."""
        selection.mark(self.keeper, position, name, region)
        for node in (self.segmentation_node, self.regions_node):
            if node is not None:
                selection.emphasise(self.keeper, node, [
                    node.GetSegmentation().GetSegmentIdBySegment(segment)
                    for one, segment in segments.explained_segments(node, self.key) if one == region
                ])  # fmt: skip

    @property
    def graph_is_shown(self) -> bool:
        """Whether :meth:`show_graph` shows a graph now."""
        return any(node.GetDisplayVisibility() for node in self.keeper.all("vtkMRMLModelNode", "graph"))

    def owns_chart(self, node: Any) -> bool:
        """Whether a plot chart node, or None, is one of :meth:`show_chart`."""
        return node is not None and node in self.keeper.all("vtkMRMLPlotChartNode", "chart")

    def hide(self) -> None:
        """Hide all but CT, segments and table: another explanation is shown."""
        self.show_overlay(None, "off")
        self.show_graph(None, visible=False)
        volume_rendering.hide_renderings(self.keeper)
        hide_legend(self.keeper, "volume-legend")
        self._hide("surface")
        self.select("", "", None)
        self.colour_segments(None)

    def file_away(self) -> int:
        """Put all nodes into the explanation's folder in the subject hierarchy; return the folder's item."""
        return file_away(self.keeper, self.anchor.GetName(), self.ct_node or self.anchor)

    def remove(self) -> None:
        """Remove every node of the explanation but the CT, and its folder."""
        remove_all(self.keeper)

    def _overlay(
        self, name: str | None, mode: Any, percentile: float, mask: np.ndarray | None, names: Sequence[str] | None
    ) -> tuple[Any, Any]:
        if name is None:
            raise InputError("an overlay needs the class that it explains; give one of " + ", ".join(self.classes))
        told = "" if mask is None else ",".join(names) if names else "own mask"
        attribution = self._attribution(name)
        if mask is not None and mask.shape != attribution.shape:
            raise InputError(
                f"a mask of shape {mask.shape} does not fit the attribution of {name} of shape {attribution.shape}"
            )
        node, window = overlay.overlay_node(
            self.keeper, attribution, name, mode, percentile=percentile, mask=mask, mask_name=told
        )
        node.SetAndObserveTransformNodeID(self._transform)
        self.file_away()
        return node, window

    def _mask(self, names: Sequence[str] | None, mask: np.ndarray | None) -> np.ndarray | None:
        if names is None:
            return mask
        labels = self._labels
        inside = np.zeros(labels.shape, dtype=bool) if mask is None else np.array(mask, dtype=bool)
        for name in names:
            if name in self.explanation.regions:
                inside |= self.explanation.region(name).voxels > 0
            elif name in self.explanation.labels:
                inside |= labels.voxels == self.explanation.labels.index(name)
            else:
                known = [*self.explanation.labels, *self.explanation.regions]
                raise InputError(f"there is no segment {name!r} to mask by; {nearest_names(name, known)}")
        return inside

    def check_class(self, name: str) -> None:
        """Raise InputError, with the nearest names, for a class without attribution."""
        if name not in self.classes:
            raise InputError(
                f"{name!r} has no attribution in {self.explanation.folder}; {nearest_names(name, self.classes)}"
            )

    def _attribution(self, name: str) -> Volume:
        from Agg2ExpLib.volume import Volume

        self.check_class(name)
        kept: dict[str, Volume] = self.__dict__.setdefault("_kept", {})
        if name not in kept:
            # One class at a time: a model of a hundred classes would otherwise fill the memory.
            kept.clear()
            found = self.explanation.attribution(name)
            kept[name] = Volume(np.nan_to_num(found.voxels), found.grid)
        return kept[name]

    @cached_property
    def _labels(self) -> Volume:
        return self.explanation.model_prediction()

    @cached_property
    def centres(self) -> dict[str, np.ndarray]:
        """Centre of every class (but background) and region that has voxels, RAS millimetres without the CT's transform."""
        regions = {name: self.explanation.region(name) for name in self.explanation.regions}
        return graph.centres_of(self._labels, self.explanation.labels, regions)

    @property
    def _transform(self) -> Any:
        ct = self.ct_node
        return ct.GetTransformNodeID() if ct is not None else None

    def _hide(self, role: str) -> None:
        for class_name in ("vtkMRMLModelNode", "vtkMRMLMarkupsFiducialNode"):
            for node in self.keeper.all(class_name, role):
                node.SetDisplayVisibility(False)


def _show_segments(shown: SceneExplanation, prediction: Volume, given: Any) -> None:
    keeper, explanation = shown.keeper, shown.explanation
    title = f"Prediction of {explanation.document['model'].get('name') or 'the model'}"
    node = given or shown.segmentation_node or keeper.get("vtkMRMLSegmentationNode", "segmentation", title)
    keeper.mark(node, "segmentation")
    keeper.display(node, "vtkMRMLSegmentationDisplayNode")
    if shown.ct_node is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(shown.ct_node)
        node.SetAndObserveTransformNodeID(shown.ct_node.GetTransformNodeID())
    names = {value: label for value, label in enumerate(explanation.labels) if value}
    segments.add_label_segments(node, prediction, names, shown.key)
    segments.colour_by_structure(node, shown.key)
    shown.anchor.SetNodeReferenceID(saved.SEGMENTATION, node.GetID())


def _show_regions(shown: SceneExplanation) -> None:
    explanation = shown.explanation
    if not explanation.regions:
        return
    node = shown.keeper.get("vtkMRMLSegmentationNode", "regions", "Extra regions")
    shown.keeper.display(node, "vtkMRMLSegmentationDisplayNode")
    if shown.ct_node is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(shown.ct_node)
        node.SetAndObserveTransformNodeID(shown.ct_node.GetTransformNodeID())
    for name in explanation.regions:
        segments.add_mask_segment(node, explanation.region(name), name, shown.key)
    segments.colour_by_structure(node, shown.key)
    shown.anchor.SetNodeReferenceID(saved.REGIONS, node.GetID())
