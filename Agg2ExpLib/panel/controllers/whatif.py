"""What if a region were something else? Runs the prediction again, and says and shows what changed."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.panel.compute.task import Task
from Agg2ExpLib.panel.controllers.presenter import Presenter
from Agg2ExpLib.panel.current_explanation import CurrentExplanation
from Agg2ExpLib.panel.desk import Desk
from Agg2ExpLib.panel.nodes import segment_volume
from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.sections.results import ResultsSection
from Agg2ExpLib.panel.words.choices import FILL_TEXTS


@dataclass(frozen=True)
class Change:
    """One structure before and after a what-if: Dice of both, volumes in ml."""

    structure: str
    dice: float
    before_ml: float
    after_ml: float


class WhatIfController:
    """Stands between the what-if of the results section and the work.

    Parameters
    ----------
    section : ResultsSection
        What is replaced by what, and where it is said what changed.
    presenter : Presenter
        Knows what is shown.
    desk : Desk
        Runs the prediction.
    """

    def __init__(self, section: ResultsSection, presenter: Presenter, desk: Desk) -> None:
        self._section, self._presenter, self._desk = section, presenter, desk
        section.pressed.connect(lambda name: self.predict() if name == "whatif" else None)

    def predict(self) -> None:
        """Replace the chosen region and predict again."""
        shown, key = self._presenter.shown, str(widgets.chosen(self._section.region) or "")
        if shown is None or not key:
            return
        name, mask = region_of(key)
        fill, device = str(widgets.chosen(self._section.fill)), self._desk.choices().device
        self._section.say_whatif("")
        self._desk.run(
            lambda: self._desk.tasks.whatif(shown.folder, name, fill, mask=mask, device=device),
            lambda outcome, task: self._on_predicted(task, shown, name, fill),
            self._section.line,
        )

    def _on_predicted(self, task: Task, shown: CurrentExplanation, name: str, fill: str) -> None:
        if task.out is not None:
            changes = read_whatif(task.out)
            node = show_whatif_segmentation(task.out, shown, name)
            told = describe_whatif(changes, name, fill, shown.structure)
            self._section.say_whatif(
                _("{changes}\nThe second segmentation is in the scene as '{node}', hidden.").format(
                    changes=told, node=node.GetName()
                )
            )


def region_of(key: str) -> tuple[str, Any]:
    """Return name and mask of a region: the mask of a painted segment, None for one that the explanation knows."""
    if not key.startswith("segment:"):
        return key, None
    node_id, _slash, identifier = key.removeprefix("segment:").partition("/")
    node = slicer.mrmlScene.GetNodeByID(node_id)
    segment = node.GetSegmentation().GetSegment(identifier)
    return segment.GetName(), segment_volume(node, identifier)


def read_whatif(folder: Path) -> list[Change]:
    """Read what changed from a what-if folder.

    Raises
    ------
    InputError
        It is incomplete.
    """
    try:
        with (folder / "whatif.csv").open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))[1:]
        return [Change(name, float(dice), float(before), float(after)) for name, dice, before, after in rows]
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} has no readable whatif.csv ({error}); predict again") from error


def describe_whatif(changes: Sequence[Change], region: str, fill: str, explained: str = "", count: int = 4) -> str:
    """Return what changed in words: the explained structure, then the most changed ones."""
    known = sorted((one for one in changes if math.isfinite(one.dice)), key=lambda one: one.dice)
    words = FILL_TEXTS[fill][0]
    replaced = {"region": structure(region).name, "filling": words}
    if not known or known[0].dice > 0.995:
        return _(
            "With {region} replaced by {filling}: the segmentation stays the same (every Dice above 0.995)."
        ).format(**replaced)
    lines = [
        _("{structure}: Dice {dice}, {before} → {after} ml").format(
            structure=structure(one.structure).name,
            dice=f"{one.dice:.2f}",
            before=f"{one.before_ml:.0f}",
            after=f"{one.after_ml:.0f}",
        )
        for one in sorted(known, key=lambda one: one.structure != explained)[: count + 1]
        if one.dice <= 0.995 or one.structure == explained
    ]
    return "\n".join([_("With {region} replaced by {filling}:").format(**replaced), *lines])


def show_whatif_segmentation(folder: Path, shown: CurrentExplanation, region: str) -> Any:
    """Put the second prediction into the scene as a segmentation of its own, hidden at first; return the node."""
    from Agg2ExpLib.scene.segments import add_label_segments
    from Agg2ExpLib.volume import read_volume

    labels = read_volume(folder / "prediction.nii.gz", kind="labels")
    node = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLSegmentationNode", _("Without {region}").format(region=structure(region).name)
    )
    node.SetAttribute("Agg2Exp.WhatIf", shown.key)
    node.CreateDefaultDisplayNodes()
    if shown.ct_node is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(shown.ct_node)
    labels_of_model = shown.in_scene.explanation.labels if shown.in_scene else ()
    names = {value: label for value, label in enumerate(labels_of_model) if value}
    add_label_segments(node, labels, names, shown.key)
    display = node.GetDisplayNode()
    if display is not None:
        display.SetVisibility(False)
    return node
