"""Which lesion? Has the instances of the shown structure explained, lists them, and goes to the one that is chosen."""

from __future__ import annotations

import json
from typing import Any

from slicer.i18n import tr as _

from Agg2ExpLib.case.instances import ADDITIVE
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.panel.compute.task import Outcome
from Agg2ExpLib.panel.controllers.presenter import Presenter
from Agg2ExpLib.panel.current_explanation import CurrentExplanation
from Agg2ExpLib.panel.desk import Desk
from Agg2ExpLib.panel.sections.results import ResultsSection
from Agg2ExpLib.panel.words.choices import method_words

#: Attribute of an explanation's node: structure -> its instances and what is said of them, as JSON.
INSTANCES = "Agg2Exp.Instances"
# Of a scene from elsewhere, what the table relies on.
_NUMBERS = ("number", "volume_ml", "x", "y", "z")
_MAYBE = ("inside", "rim", "outside", "shell", "oddness", "expected")


class InstancesController:
    """Stands between the table of instances and the work.

    Parameters
    ----------
    section : ResultsSection
        Where the button and the table are.
    presenter : Presenter
        Knows what is shown.
    desk : Desk
        Runs the explanation.
    """

    def __init__(self, section: ResultsSection, presenter: Presenter, desk: Desk) -> None:
        self._section, self._presenter, self._desk = section, presenter, desk
        section.pressed.connect(lambda name: self.ask() if name == "instances" else None)
        section.instances.chosen.connect(self._on_chosen)
        presenter.changed.connect(self.show)
        presenter.overlaid.connect(self.show)

    def ask(self) -> None:
        """Explain each instance of the shown structure, by the explanation's own method where that can be."""
        shown = self._presenter.shown
        if shown is None or not shown.structure or shown.in_scene is None:
            return
        name, own = shown.structure, shown.in_scene.explanation.document["settings"]["method"]
        method = "" if own in ADDITIVE else ADDITIVE[0]
        self._desk.run(
            lambda: self._desk.tasks.instances(shown.folder, name, method, self._desk.choices().device),
            lambda outcome, task: self._on_answered(outcome, shown, name, instead=own if method else ""),
            self._section.line,
        )

    def show(self) -> None:
        """List the instances of the shown structure; nothing where they were not asked for."""
        shown = self._presenter.shown
        found = instances_in(shown.saved.anchor).get(shown.structure, ([], "")) if shown else ([], "")
        self._section.instances.show(*found)

    def _on_answered(self, outcome: Outcome, shown: CurrentExplanation, name: str, instead: str = "") -> None:
        """Keep and list an answer; ``instead`` names the explanation's method when it could not be used."""
        answer = outcome.answer or {}
        if not isinstance(answer.get("sentences"), list):
            raise InputError("the explanation of instances gave no answer; update the computing Python's Agg2Exp")
        kept = {key: [rows, told] for key, (rows, told) in instances_in(shown.saved.anchor).items()}
        # Whoever has no time sees the odd ones without scrolling.
        rows = sorted(answer["instances"], key=lambda row: not row["odd"])
        told = list(answer["sentences"])
        if instead:
            words = _("By plain gradient: instances of {method} do not sum to their structure.")
            told.insert(0, words.format(method=method_words(instead)[0]))
        kept[name] = [rows, " ".join(told)]
        shown.saved.anchor.SetAttribute(INSTANCES, json.dumps(kept))
        self.show()

    def _on_chosen(self, line: int) -> None:
        """Centre the slices on an instance."""
        from Agg2ExpLib.scene import views

        shown = self._presenter.shown
        if shown is None or shown.in_scene is None:
            return
        rows, _told = instances_in(shown.saved.anchor).get(shown.structure, ([], ""))
        if line < len(rows):
            x, y, z = (float(rows[line][axis]) for axis in "xyz")
            views.jump_to(shown.in_scene.scene, shown.in_scene.in_world([-x, -y, z]))


def instances_in(anchor: Any) -> dict[str, tuple[list[dict[str, Any]], str]]:
    """Return structure -> rows and sentence, as an explanation's node knows them; none of a node from elsewhere."""
    try:
        found = json.loads(anchor.GetAttribute(INSTANCES) or "{}")
        return {str(name): ([_row(row) for row in rows], str(told)) for name, (rows, told) in found.items()}
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return {}


def _row(row: dict[str, Any]) -> dict[str, Any]:
    numbers = {key: float(row[key]) for key in _NUMBERS} | {"number": int(row["number"])}
    maybe = {key: None if row.get(key) is None else float(row[key]) for key in _MAYBE}
    return {**numbers, **maybe, "odd": row.get("odd") is True, "why": str(row.get("why", ""))}
