"""Explain: what is computed, what it will cost, Apply and progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import qt
from slicer.i18n import tr as _

from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.sections.option_controls import OptionControls
from Agg2ExpLib.panel.sections.structure_list import StructureList
from Agg2ExpLib.panel.sections.task_line import TaskLine
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.panel.words.buttons import PanelState
from Agg2ExpLib.panel.words.choices import Choices, Method, method_words
from Agg2ExpLib.panel.words.options import bound_options, options_of


class ExplainSection:
    """The second section.

    Attributes
    ----------
    changed, apply_pressed, refine_pressed, estimate_pressed, environment_pressed, results_pressed, compare_pressed : Signal
        Without values.
    """

    def __init__(self, ui: Any, visible_names: Callable[[], Iterable[str]]) -> None:
        self.changed, self.apply_pressed, self.refine_pressed = Signal(), Signal(), Signal()
        self.estimate_pressed = Signal()
        self.environment_pressed, self.results_pressed, self.compare_pressed = Signal(), Signal(), Signal()
        self.frame, self.advanced = ui.explainCollapsibleButton, ui.advancedCollapsibleButton
        self.structures = StructureList(ui, visible_names)
        self.method, self.samples = ui.methodComboBox, ui.samplesSpinBox
        self.options = OptionControls(ui.methodOptionsFrame)
        self.device, self.results_folder = ui.deviceComboBox, ui.resultsFolderLabel
        self.apply, self.refine, self.estimate = ui.applyButton, ui.refineButton, ui.estimateButton
        self.environment, self.compare, self.results = (
            ui.environmentButton,
            ui.compareMethodsButton,
            ui.resultsFolderButton,
        )
        self.cost, self.line = ui.costLabel, TaskLine(ui.statusLabel)
        # The reason stands under the button too: a tooltip is not found with the keyboard.
        self.reason = ui.applyReasonLabel
        self.cost.setVisible(False)
        self.device.addItem(_("automatic"), "auto")
        self.device.setItemData(0, _("A GPU that answers, else the CPU."), qt.Qt.ToolTipRole)
        self.device.addItem(_("CPU"), "cpu")
        for button, signal in (
            (self.apply, self.apply_pressed),
            (self.refine, self.refine_pressed),
            (self.estimate, self.estimate_pressed),
            (self.environment, self.environment_pressed),
            (self.compare, self.compare_pressed),
            (self.results, self.results_pressed),
        ):
            button.clicked.connect(lambda *_, signal=signal: signal.emit())
        self.structures.changed.connect(self.changed.emit)
        self.device.currentIndexChanged.connect(lambda *_: self.changed.emit())

    def show_choices(self, choices: Choices) -> None:
        """Show what no widget is bound to: device, and structures as far as the model has them."""
        if not widgets.choose(self.device, choices.device):
            self.device.addItem(choices.device, choices.device)
            widgets.choose(self.device, choices.device)
        if self.structures.ticked() != choices.structures:
            self.structures.tick(choices.structures)
        self.show_method(choices.method, dict(choices.more))

    def show_method(self, name: str, options: Mapping[str, Any]) -> None:
        """Say what each method does, whether the chosen one takes samples, and what else it takes."""
        for index, one in enumerate(Method):
            # Bound anew with each scene, the list holds names alone.
            self.method.setItemData(index, method_words(one.name)[1], qt.Qt.ToolTipRole)
        # Refine takes them too, whatever the method.
        self.samples.setEnabled("samples" in bound_options(name) or name == "gradient")
        self.options.show(options_of(name), options)

    def show_model(self, card: ModelCard | None) -> None:
        """List the structures of another model, none ticked."""
        self.structures.fill(card.labels if card else (), card.colours if card else (), ticked=())

    def show_devices(self, devices: list[dict[str, Any]]) -> None:
        """Offer the devices that the child process found."""
        before = widgets.chosen(self.device)
        self.device.blockSignals(True)
        while int(widgets.read(self.device, "count")) > 1:
            self.device.removeItem(1)
        for device in devices:
            name, free = str(device["name"]), int(device.get("free_bytes") or 0)
            if free:
                name = _("{device}, {free} GB free").format(device=name, free=f"{free / 1024**3:.0f}")
            if not device.get("ok"):
                name = _("{device} (does not run)").format(device=name)
            self.device.addItem(name, device["id"])
        widgets.choose(self.device, before)
        self.device.blockSignals(False)
        self.changed.emit()

    def show_state(self, state: PanelState) -> None:
        """Give the buttons their looks."""
        looks = {
            "apply": self.apply,
            "refine": self.refine,
            "estimate": self.estimate,
            "environment": self.environment,
            "compare methods": self.compare,
        }
        for name, widget in looks.items():
            widgets.apply_look(widget, state[name])
        reason = state["apply"].reason
        self.reason.setText(reason)
        self.reason.setVisible(bool(reason))

    def say_cost(self, text: str) -> None:
        """Show the estimate."""
        self.cost.setText(text)
        self.cost.setVisible(bool(text))


def describe_cost(answer: dict[str, Any]) -> str:
    """Return an estimate in words.

    Examples
    --------
    >>> describe_cost({"seconds_at_least": 3.1, "seconds_at_most": 95.0, "memory_bytes": 2**31, "device": "cpu", "windows": 8})
    'Between 3.1 s and 1 min 35 s, about 2.0 GB on the CPU.'
    """
    from Agg2ExpLib.report import clock

    device = str(answer.get("device", ""))
    where = _("the CPU") if device == "cpu" else _("the GPU ({device})").format(device=device)
    least, most = (float(answer[f"seconds_at_{end}"]) for end in ("least", "most"))
    gigabytes = f"{float(answer['memory_bytes']) / 1024**3:.1f}"
    if most > 1.2 * least:
        return _("Between {least} and {most}, about {gigabytes} GB on {where}.").format(
            least=clock(least), most=clock(most), gigabytes=gigabytes, where=where
        )
    return _("About {most}, about {gigabytes} GB on {where}.").format(
        most=clock(most), gigabytes=gigabytes, where=where
    )
