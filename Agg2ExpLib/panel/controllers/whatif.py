"""What if a region were something else, and what does a structure need? Predicts again, and says and shows what changed."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.panel.compute.task import Outcome, Task
from Agg2ExpLib.panel.controllers.presenter import Presenter
from Agg2ExpLib.panel.current_explanation import CurrentExplanation
from Agg2ExpLib.panel.desk import Desk
from Agg2ExpLib.panel.nodes import segment_volume
from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.sections.results import ResultsSection
from Agg2ExpLib.panel.words.choices import FILL_TEXTS

#: Attributes of a second prediction: its explanation, what was replaced by what, and what changed as JSON.
WHATIF, REGION, FILL, CHANGES = (f"Agg2Exp.WhatIf{name}" for name in ("", "Region", "Fill", "Changes"))
#: Attribute of an explanation's node: structure -> what it needs, as JSON.
NEEDS = "Agg2Exp.Needs"
# A Dice above is called the same.
_SAME = 0.995


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
        self._chosen = ""
        section.pressed.connect(self._on_pressed)
        section.whatifs.chosen.connect(self._on_chosen)
        section.whatifs.switched.connect(lambda *_: self._draw())
        presenter.changed.connect(self.show)
        presenter.overlaid.connect(self.show)

    def _on_pressed(self, name: str) -> None:
        if name == "whatif":
            self.predict()
        elif name == "needs":
            self.ask_needs()

    def predict(self) -> None:
        """Replace the chosen region and predict again."""
        shown, key = self._presenter.shown, str(widgets.chosen(self._section.region) or "")
        if shown is None or not key:
            return
        name, mask = region_of(key)
        fill, device = str(widgets.chosen(self._section.fill)), self._desk.choices().device
        self._desk.run(
            lambda: self._desk.tasks.whatif(shown.folder, name, fill, mask=mask, device=device),
            lambda outcome, task: self._on_predicted(task, shown, name, fill),
            self._section.line,
        )

    def ask_needs(self) -> None:
        """Find out how much around the shown structure the model needs."""
        shown = self._presenter.shown
        if shown is None or not shown.structure:
            return
        name = shown.structure
        self._desk.run(
            lambda: self._desk.tasks.needs(shown.folder, name, self._desk.choices().device),
            lambda outcome, task: self._on_answered(outcome, shown, name),
            self._section.line,
        )

    def show(self) -> None:
        """List the what-ifs of the shown explanation, and show the chosen one as the switch says."""
        shown = self._presenter.shown
        found = whatifs_of(shown.key) if shown else []
        if self._chosen not in [node.GetID() for node in found]:
            self._chosen = found[-1].GetID() if found else ""
        explained = shown.structure if shown else ""
        rows = [(node.GetID(), str(node.GetName()), change_of(node, explained)) for node in found]
        self._section.whatifs.show(rows, structure(explained).name if explained else "", self._chosen)
        told = needs_in(shown.saved.anchor).get(explained, "") if shown else ""
        self._section.say_needs(told)
        self._draw()

    def _on_predicted(self, task: Task, shown: CurrentExplanation, name: str, fill: str) -> None:
        if task.out is not None:
            node = show_whatif_segmentation(task.out, shown, name, fill)
            self._chosen = node.GetID()
            self.show()

    def _on_answered(self, outcome: Outcome, shown: CurrentExplanation, name: str) -> None:
        answer = outcome.answer or {}
        tried = sorted((float(margin), float(dice)) for margin, dice in answer.get("tried", ()))
        details = ", ".join(f"{margin:g}\u00a0mm\u00a0{dice:.2f}" for margin, dice in tried)
        told = _("{sentence} Dice by margin: {details}.").format(sentence=answer.get("sentence", ""), details=details)
        shown.saved.anchor.SetAttribute(NEEDS, json.dumps(needs_in(shown.saved.anchor) | {name: told}))
        self.show()

    def _on_chosen(self, identifier: str) -> None:
        self._chosen = identifier
        self._draw()

    def _draw(self) -> None:
        """Say and show the chosen what-if; all others are hidden, those of other explanations too."""
        shown, mode = self._presenter.shown, self._section.whatifs.mode
        for node in whatifs_of(None):
            chosen = node.GetID() == self._chosen and shown is not None
            show_outlines(node, shown.structure if shown else "", visible=chosen and mode != "before")
        node = slicer.mrmlScene.GetNodeByID(self._chosen) if self._chosen else None
        before = shown.saved.segmentation_node if shown else None
        if before is not None and before.GetDisplayNode() is not None and (node is not None or self._hid):
            before.GetDisplayNode().SetVisibility(node is None or mode != "after")
            self._hid = node is not None and mode == "after"
        if node is None or shown is None:
            self._section.say_whatif("")
            return
        region, fill = node.GetAttribute(REGION) or "", node.GetAttribute(FILL) or "air"
        self._section.say_whatif(describe_whatif(changes_of(node), region, fill, shown.structure))

    # Whether the first prediction was hidden, for the switch.
    _hid = False


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
    words = FILL_TEXTS.get(fill, (fill, ""))[0]
    replaced = {"region": structure(region).name, "filling": words}
    if not known or known[0].dice > _SAME:
        return _(
            "With {region} replaced by {filling}: the segmentation stays the same (every Dice above 0.995)."
        ).format(**replaced)
    lines = [
        f"{structure(one.structure).name}: {in_words(one)}"
        for one in sorted(known, key=lambda one: one.structure != explained)[: count + 1]
        if one.dice <= _SAME or one.structure == explained
    ]
    return "\n".join([_("With {region} replaced by {filling}:").format(**replaced), *lines])


def in_words(one: Change) -> str:
    """Return Dice, volumes and their change in percent.

    Examples
    --------
    >>> in_words(Change("heart", 0.82, 120.0, 96.0))
    'Dice 0.82, 120 → 96 ml (-20 %)'
    """
    change = f" ({100 * (one.after_ml / one.before_ml - 1):+.0f} %)" if one.before_ml > 0 else ""
    return _("Dice {dice}, {before} → {after} ml{change}").format(
        dice=f"{one.dice:.2f}", before=f"{one.before_ml:.0f}", after=f"{one.after_ml:.0f}", change=change
    )


def show_whatif_segmentation(folder: Path, shown: CurrentExplanation, region: str, fill: str = "") -> Any:
    """Put the second prediction into the scene as a segmentation of its own, that knows what changed; return the node."""
    from Agg2ExpLib.scene.segments import add_label_segments
    from Agg2ExpLib.volume import read_volume

    labels = read_volume(folder / "prediction.nii.gz", kind="labels")
    changes = read_whatif(folder)
    name = _("{region} as {filling}").format(
        region=structure(region).name, filling=FILL_TEXTS.get(fill, (fill or _("something else"), ""))[0]
    )
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", slicer.mrmlScene.GenerateUniqueName(name))
    for key, value in (
        (WHATIF, shown.key),
        (REGION, region),
        (FILL, fill),
        (CHANGES, json.dumps([*map(_row, changes)])),
    ):
        node.SetAttribute(key, value)
    node.CreateDefaultDisplayNodes()
    if shown.ct_node is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(shown.ct_node)
        node.SetAndObserveTransformNodeID(shown.ct_node.GetTransformNodeID())
    labels_of_model = shown.in_scene.explanation.labels if shown.in_scene else ()
    names = {value: label for value, label in enumerate(labels_of_model) if value}
    add_label_segments(node, labels, names, shown.key)
    show_outlines(node, shown.structure, visible=True)
    return node


def show_outlines(node: Any, explained: str, *, visible: bool) -> None:
    """Show of a second prediction what has changed, and the explained structure: thick lines with shading, in slices alone."""
    from Agg2ExpLib.scene.segments import explained_segments

    display = node.GetDisplayNode()
    if display is None:
        return
    changed = {one.structure for one in changes_of(node) if not one.dice > _SAME} | {explained}
    changing = display.StartModify()
    for name, segment in explained_segments(node, node.GetAttribute(WHATIF)):
        display.SetSegmentVisibility(node.GetSegmentation().GetSegmentIdBySegment(segment), name in changed)
    display.SetVisibility(visible)
    display.SetVisibility3D(False)
    display.SetVisibility2DFill(True)
    display.SetOpacity2DFill(0.2)
    display.SetVisibility2DOutline(True)
    display.SetSliceIntersectionThickness(4)
    display.EndModify(changing)


def whatifs_of(key: str | None) -> list[Any]:
    """Return the second predictions of an explanation in the scene, the latest last; of all explanations for ``None``."""
    count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    nodes = [slicer.mrmlScene.GetNthNodeByClass(index, "vtkMRMLSegmentationNode") for index in range(count)]
    return [node for node in nodes if node.GetAttribute(WHATIF) and key in (None, node.GetAttribute(WHATIF))]


def changes_of(node: Any) -> list[Change]:
    """Return what changed, as a second prediction's node knows it; none of a node from elsewhere."""
    try:
        found = json.loads(node.GetAttribute(CHANGES) or "[]")
        return [Change(str(name), *(_number(value) for value in values)) for name, *values in found]
    except (ValueError, TypeError, RecursionError):
        return []


def change_of(node: Any, name: str) -> Change | None:
    """Return what changed of one structure."""
    return next((one for one in changes_of(node) if one.structure == name), None)


def needs_in(anchor: Any) -> dict[str, str]:
    """Return structure -> what it needs, in words, as an explanation's node knows it."""
    try:
        found = json.loads(anchor.GetAttribute(NEEDS) or "{}")
    except (ValueError, RecursionError):
        return {}
    return {str(name): str(told) for name, told in found.items()} if isinstance(found, dict) else {}


def _row(one: Change) -> list[Any]:
    # JSON has no NaN.
    return [one.structure, *(None if math.isnan(value) else value for value in (one.dice, one.before_ml, one.after_ml))]


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
