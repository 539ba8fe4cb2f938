"""The explanation that the results section shows: its nodes in the scene, its table, and the regions that are painted now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from slicer.i18n import tr as _

from Agg2ExpLib.errors import Agg2ExpError, InputError
from Agg2ExpLib.panel.live_importance import LiveImportance
from Agg2ExpLib.panel.nodes import Layers, Segment, named_segments, segment_volume, segments_of, volume_of
from Agg2ExpLib.panel.words.choices import method_words
from Agg2ExpLib.panel.words.importance_rows import Row, rows_of, with_live

if TYPE_CHECKING:
    from pathlib import Path

    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.importance import ImportanceTable
    from Agg2ExpLib.scene import SavedExplanation, SceneExplanation
    from Agg2ExpLib.volume import Volume


class CurrentExplanation:
    """One explanation of the scene.

    Parameters
    ----------
    saved : SavedExplanation
        Its nodes.
    explanation : Explanation, optional
        What lies in its folder, where that was read already.
    """

    def __init__(self, saved: SavedExplanation, explanation: Explanation | None = None) -> None:
        from Agg2ExpLib import scene
        from Agg2ExpLib.explanation import Explanation as Folder

        self.saved = saved
        self.in_scene: SceneExplanation | None = None
        self.problem = ""
        try:
            self.in_scene = scene.find(saved.anchor.GetScene(), explanation or Folder.load(saved.folder))
        except Agg2ExpError as error:
            # A scene from another computer, or a tidied disk: what the scene itself holds is shown.
            self.problem = str(error)
        if self.in_scene is not None:
            self.table: ImportanceTable = self.in_scene.explanation.importance
        elif saved.table_node is not None:
            self.table = scene.table_from_node(saved.table_node)
        else:
            raise InputError(f"the scene has no importance table of {self.title}; compute the explanation again")
        self.structure = ""
        self._live: LiveImportance | None = None
        self._seen: dict[str, tuple[Any, Row]] = {}
        self._layers = Layers()
        self._ever: set[str] = set()

    @property
    def key(self) -> str:
        """The explanation's identity."""
        return self.saved.key

    @property
    def title(self) -> str:
        """Its name for people."""
        return str(self.saved.anchor.GetName())

    @property
    def computed_here(self) -> bool:
        """Whether its folder is there."""
        return self.in_scene is not None

    @property
    def folder(self) -> Path:
        """Where its folder is, or was."""
        return self.saved.folder

    @property
    def ct_node(self) -> Any:
        """The CT; ``None`` when it was removed."""
        return self.saved.ct_node

    @property
    def model_name(self) -> str:
        """Name of the model that was explained."""
        return str(self.saved.attributes.get("ModelName", ""))

    @property
    def explained(self) -> list[str]:
        """Structures with an attribution."""
        mass = self.table.matrix("mass")
        return [name for row, name in enumerate(self.table.classes) if np.isfinite(mass[row]).any()]

    @property
    def absent(self) -> list[str]:
        """Structures that were asked for and that the segmentation lacks."""
        explained = set(self.explained)
        return [name for name in self.table.classes if name not in explained]

    @property
    def region_ids(self) -> list[str]:
        """Extra regions of the explanation."""
        classes = set(self.in_scene.explanation.labels) if self.in_scene else set()
        if self.in_scene:
            return [roi for roi in self.table.rois if roi not in classes]
        return []

    def select(self, structure: str) -> None:
        """Show another structure from now on."""
        if structure != self.structure:
            self.structure = structure
            self._live = None
            self._seen.clear()

    def choose_region(self, region: str, segmentation_node: Any, *, move: bool = True) -> None:
        """Select a region, or the structure itself for an empty one: thick outline, mark and slices at its strongest voxel.

        Slices and mark stay where they are when the region has no voxel.
        """
        from Agg2ExpLib.scene import selection, views

        there, name = self.in_scene, self.structure
        if there is None or not name:
            return
        segment = next((one for one in segments_of(segmentation_node) if self._is(one, region)), None)
        if segment is not None:
            position = self._strongest_in_segment(segmentation_node, segment)
        else:
            position = there.strongest_in(name, region) if region else there.strongest_position(name)
        there.select(name, "" if segment is not None else region or name, position)
        if segmentation_node is not None and segmentation_node is not there.regions_node:
            selection.emphasise(there.keeper, segmentation_node, [segment.identifier] if segment is not None else [])
        if move and position is not None:
            views.slice_through(there.scene, position)

    def region_at(self, position: Sequence[float], segmentation_node: Any) -> str:
        """Return the row at a RAS position: a painted region, else a region or structure; empty where there is none."""
        if self.in_scene is None:
            return ""
        for segment, name in named_segments(segmentation_node, self._labels()).items():
            mask = segment_volume(segmentation_node, segment.identifier)
            if mask is not None:
                at = np.rint(mask.grid.world_to_index([float(part) for part in position])).astype(int)
                if ((at >= 0) & (at < mask.shape)).all() and mask.voxels[tuple(at)]:
                    return name if name in self.region_ids else segment.key
        return self.in_scene.region_at(position)

    def _is(self, segment: Segment, region: str) -> bool:
        return region in (segment.key, segment.name)

    def _strongest_in_segment(self, node: Any, segment: Segment) -> tuple[float, float, float] | None:
        live, mask = self._importance(), segment_volume(node, segment.identifier)
        found = live.strongest(mask) if live is not None and mask is not None else None
        return None if found is None or self.in_scene is None else self.in_scene.in_world(found)

    def rows(self, segmentation_node: Any) -> list[Row]:
        """Return every region's importance for the selected structure, those of a segmentation as they are painted now."""
        rows = rows_of(self.table, self.structure)
        live = self.live_rows(segmentation_node)
        present = {row.region for row in live}
        self._ever |= present
        # A region that was painted here and then removed is gone from the table too.
        return with_live([row for row in rows if row.region not in self._ever or row.region in present], live)

    def live_rows(self, segmentation_node: Any) -> list[Row]:
        """Return the rows of a segmentation's segments; only those that changed are computed again."""
        if segmentation_node is None or not self.structure:
            return []
        live = self._importance()
        if live is None:
            return []
        found = []
        for segment, name in named_segments(segmentation_node, self._labels()).items():
            state = self._state(segmentation_node, segment)
            known = self._seen.get(segment.key)
            if known is None or known[0] != state:
                region = name if name in self.region_ids else segment.key
                mask = segment_volume(segmentation_node, segment.identifier)
                known = (state, live.row(mask, region, name, segment.colour))
                self._seen[segment.key] = known
            found.append(known[1])
        return found

    def regions(self, segmentation_node: Any) -> list[tuple[str, str, tuple[int, int, int]]]:
        """Return what a what-if can replace as (key, name, colour): structures, regions, and segments of a segmentation."""
        from Agg2ExpLib.anatomy import structure

        sizes = self.table.matrix("voxels")[0] if len(self.table.classes) else []
        there = [roi for roi, size in zip(self.table.rois, sizes, strict=True) if size > 0 and roi != "background"]
        found = [(roi, structure(roi).name, structure(roi).colour) for roi in there]
        own = [
            (one.key, _("{region} (yours)").format(region=one.name), one.colour)
            for one in segments_of(segmentation_node)
        ]
        return [*own, *found]

    def _state(self, node: Any, segment: Segment) -> tuple[Any, ...]:
        """What changes when a segment is edited, renamed or recoloured, or its node is moved."""
        import slicer

        name = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
        found = node.GetSegmentation().GetSegment(segment.identifier)
        image = found.GetRepresentation(name)
        parent = node.GetParentTransformNode()
        drawn = image is not None and not image.IsEmpty() and image.GetPointData().GetScalars() is not None
        return (
            self._layers.version(image, int(found.GetLabelValue())) if drawn else None,
            image.GetAddressAsString("") if drawn else "",
            segment.name,
            segment.colour,
            parent.GetMTime() if parent else None,
        )

    def _labels(self) -> Sequence[str]:
        return self.in_scene.explanation.labels if self.in_scene else self.table.classes

    def _importance(self) -> LiveImportance | None:
        if self._live is None:
            attribution = self._attribution()
            self._live = LiveImportance(attribution) if attribution is not None else None
        return self._live

    def _attribution(self) -> Volume | None:
        from Agg2ExpLib.volume import Volume

        if self.in_scene is not None:
            found = self.in_scene.explanation.attribution(self.structure)
            return Volume(np.nan_to_num(found.voxels), found.grid)
        return self._attribution_in_scene()

    def _attribution_in_scene(self) -> Volume | None:
        """The signed overlay that was saved with the scene, else the strength: it gives the share, not for and against."""
        from Agg2ExpLib.scene.nodes import CLASS, EXPLANATION, MODE, ROLE, nodes_with

        for mode in ("signed", "magnitude"):
            wanted = {EXPLANATION: self.key, ROLE: "overlay", CLASS: self.structure, MODE: mode}
            for node in nodes_with(self.saved.anchor.GetScene(), "vtkMRMLScalarVolumeNode", wanted):
                return volume_of(node)
        return None


def shown_in(scene: Any) -> list[SavedExplanation]:
    """Return the explanations of a scene."""
    from Agg2ExpLib.scene import saved_in

    return saved_in(scene)


def title_of(saved: SavedExplanation) -> str:
    """Return what tells an explanation from others of the same scan: how it was made."""
    method, samples = saved.attributes.get("Method", ""), saved.attributes.get("Samples", "")
    how = method_words(method)[0]
    if how and samples not in ("", "0"):
        how = _("{method}, {samples} samples").format(method=how, samples=samples)
    # All of them are explanations; the scan and the method are what a narrow list has room for.
    scan = str(saved.anchor.GetName()).removeprefix(_("Explanation of {scan}").format(scan=""))
    return f"{scan} ({how})" if how else scan
