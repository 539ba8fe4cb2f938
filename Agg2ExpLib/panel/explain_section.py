"""Explain: what is computed, what it will cost, Apply and progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import qt

from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.panel import forms
from Agg2ExpLib.panel.choices import Choices, method_names, precision_names, reduction_names
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.panel.state import PanelState
from Agg2ExpLib.panel.structure_list import StructureList
from Agg2ExpLib.progress import Event


class ExplainSection:
    """The second section.

    Attributes
    ----------
    changed, apply_pressed, estimate_pressed, environment_pressed, results_pressed, compare_pressed : Signal
        Without values.
    """

    def __init__(self, layout: Any, visible_names: Callable[[], Iterable[str]]) -> None:
        self.changed, self.apply_pressed, self.estimate_pressed = Signal(), Signal(), Signal()
        self.environment_pressed, self.results_pressed, self.compare_pressed = Signal(), Signal(), Signal()
        self.frame, inner = forms.section("Explain", layout)
        self.structures = StructureList(inner, visible_names)
        fields = forms.form(inner)
        self.method = forms.choice("How the network's answer is traced back to voxels.", "method")
        for identifier, name, tip in method_names():
            self.method.addItem(name, identifier)
            self.method.setItemData(int(forms.read(self.method, "count")) - 1, tip, qt.Qt.ToolTipRole)
        forms.choose(self.method, "smoothgrad")
        self.samples = forms.whole_number(
            1,
            100_000,
            20,
            "Noisy copies (SmoothGrad) or path points (integrated gradients): more is steadier and slower.",
            "samples",
        )
        line = qt.QHBoxLayout()
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.method, 1)
        line.addWidget(qt.QLabel("Samples"))
        line.addWidget(self.samples)
        fields.addRow("Method", line)
        self._add_advanced(inner)
        self.cost = forms.note()
        self.cost.setObjectName("cost")
        self.cost.setVisible(False)
        inner.addWidget(self.cost)
        self.estimate = forms.button("", self.estimate_pressed.emit, name="estimate")
        inner.addWidget(self.estimate)
        self.apply = forms.button("Apply", self.apply_pressed.emit, name="apply")
        self.apply.setMinimumHeight(32)
        font = forms.read(self.apply, "font")
        font.setBold(True)
        self.apply.setFont(font)
        self.apply.setDefault(True)
        inner.addWidget(self.apply)
        # The reason stands under the button too: a tooltip is not found with the keyboard.
        self.reason = forms.note()
        self.reason.setObjectName("reason")
        inner.addWidget(self.reason)
        self.progress = qt.QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setMaximumHeight(12)
        self.progress.setVisible(False)
        inner.addWidget(self.progress)
        self.status = forms.note()
        self.status.setObjectName("status")
        self.status.setVisible(False)
        inner.addWidget(self.status)
        self.structures.changed.connect(self.changed.emit)
        self.method.currentIndexChanged.connect(self._on_method)
        self.samples.valueChanged.connect(lambda *_: self.changed.emit())

    def _add_advanced(self, inner: Any) -> None:
        self.advanced, layout = forms.section("Advanced", inner, collapsed=True)
        fields = forms.form(layout)
        self.reduction = forms.choice(
            "The one number per structure that is explained (the A of equation 2).", "reduction"
        )
        for identifier, name in reduction_names():
            self.reduction.addItem(name, identifier)
        fields.addRow("What is explained", self.reduction)
        self.seed = forms.whole_number(
            0, 2_147_483_647, 0, "The same seed gives the same noise, so the same result.", "seed"
        )
        fields.addRow("Seed", self.seed)
        self.precision = forms.choice(
            "Numbers that the network computes with; float32 unless you know why.", "precision"
        )
        for name in precision_names():
            self.precision.addItem(name, name)
        fields.addRow("Precision", self.precision)
        self.device = forms.choice("Where the network runs; Check environment lists what this computer has.", "device")
        self.device.addItem("automatic (a GPU that answers, else the CPU)", "auto")
        self.device.addItem("CPU", "cpu")
        fields.addRow("Device", self.device)
        self.overlap = qt.QDoubleSpinBox()
        self.overlap.setRange(-0.05, 0.9)
        self.overlap.setSingleStep(0.05)
        self.overlap.setSpecialValueText("the model's own")
        self.overlap.setValue(-0.05)
        self.overlap.setObjectName("overlap")
        self.overlap.setAccessibleName("overlap")
        self.overlap.setToolTip("Overlap of neighbouring windows, as a share of a window: more is smoother and slower.")
        fields.addRow("Window overlap", self.overlap)
        self.results_folder = forms.note()
        self.results = forms.button(
            "Change", self.results_pressed.emit, "Chooses where explanations are kept.", small=True
        )
        line = qt.QHBoxLayout()
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.results_folder, 1)
        line.addWidget(self.results)
        fields.addRow("Results are kept in", line)
        self.environment = forms.button("", self.environment_pressed.emit, name="environment")
        self.compare = forms.button("", self.compare_pressed.emit, name="compare methods")
        for widget in (self.compare, self.environment):
            layout.addWidget(widget)
        for box in (self.reduction, self.precision, self.device):
            box.currentIndexChanged.connect(lambda *_: self.changed.emit())
        self.seed.valueChanged.connect(lambda *_: self.changed.emit())
        self.overlap.valueChanged.connect(lambda *_: self.changed.emit())

    def choices(self, model: str) -> Choices:
        """Return what is chosen."""
        overlap = float(forms.read(self.overlap, "value"))
        return Choices(
            model=model,
            structures=self.structures.ticked(),
            method=str(forms.chosen(self.method)),
            samples=int(forms.read(self.samples, "value")),
            reduction=str(forms.chosen(self.reduction)),
            seed=int(forms.read(self.seed, "value")),
            precision=str(forms.chosen(self.precision)),
            device=str(forms.chosen(self.device)),
            overlap=None if overlap < 0 else overlap,
        )

    def show_choices(self, choices: Choices) -> None:
        """Set the fields; structures are ticked as far as the model has them."""
        forms.choose(self.method, choices.method)
        self.samples.setValue(choices.samples)
        forms.choose(self.reduction, choices.reduction)
        self.seed.setValue(min(choices.seed, 2_147_483_647))
        forms.choose(self.precision, choices.precision)
        if not forms.choose(self.device, choices.device):
            self.device.addItem(choices.device, choices.device)
            forms.choose(self.device, choices.device)
        self.overlap.setValue(-0.05 if choices.overlap is None else choices.overlap)
        self.structures.tick(choices.structures)

    def show_model(self, card: ModelCard | None) -> None:
        """List the structures of another model, all ticked."""
        self.structures.fill(card.labels if card else (), card.colours if card else ())

    def show_devices(self, devices: list[dict[str, Any]]) -> None:
        """Offer the devices that the child process found."""
        before = forms.chosen(self.device)
        while int(forms.read(self.device, "count")) > 1:
            self.device.removeItem(1)
        for device in devices:
            free = f", {device['free_bytes'] / 1024**3:.0f} GB free" if device.get("free_bytes") else ""
            broken = "" if device.get("ok") else " (does not run)"
            self.device.addItem(f"{device['name']}{free}{broken}", device["id"])
        forms.choose(self.device, before)

    def show_state(self, state: PanelState) -> None:
        """Give the buttons their looks."""
        looks = {
            "apply": self.apply,
            "estimate": self.estimate,
            "environment": self.environment,
            "compare methods": self.compare,
        }
        for name, widget in looks.items():
            forms.apply_look(widget, state[name])
        reason = state["apply"].reason
        self.reason.setText(reason)
        self.reason.setVisible(bool(reason))

    def show_event(self, event: Event) -> None:
        """Show progress in one line: stage, structure, count and time left."""
        self.progress.setVisible(True)
        self.progress.setRange(0, max(event.total, 0))
        self.progress.setValue(min(max(event.done, 0), max(event.total, 0)))
        self.say(describe_event(event))

    def say(self, text: str) -> None:
        """Show one sentence under the bar; empty hides it."""
        self.status.setText(text)
        self.status.setVisible(bool(text))

    def end_progress(self) -> None:
        """Hide the bar."""
        self.progress.setVisible(False)

    def say_cost(self, text: str) -> None:
        """Show the estimate."""
        self.cost.setText(text)
        self.cost.setVisible(bool(text))

    def _on_method(self, *_: Any) -> None:
        from Agg2ExpLib.attribution import METHODS

        self.samples.setEnabled(bool(METHODS[str(forms.chosen(self.method))].samples))
        self.changed.emit()


def describe_event(event: Event) -> str:
    """Return progress in words.

    Examples
    --------
    >>> describe_event(Event("attribution", 7, 20, "heart", 42.0))
    'attribution: heart, 7 of 20, 0:42 left'
    """
    parts = [event.detail.replace("_", " ")] if event.detail else []
    if event.total > 0:
        parts.append(f"{event.done} of {event.total}")
    if event.seconds_left is not None:
        minutes, seconds = divmod(round(event.seconds_left), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    return f"{event.stage}: {', '.join(parts)}" if parts else f"{event.stage} …"


def describe_cost(answer: dict[str, Any]) -> str:
    """Return an estimate in words.

    Examples
    --------
    >>> describe_cost({"seconds_at_least": 3.1, "seconds_at_most": 95.0, "memory_bytes": 2**31, "device": "cpu", "windows": 8})
    'Between 3.1 s and 1 min 35 s, about 2.0 GB on the CPU.'
    """
    from Agg2ExpLib.report import clock

    device = str(answer.get("device", ""))
    where = "the CPU" if device == "cpu" else f"the GPU ({device})"
    least, most = (float(answer[f"seconds_at_{end}"]) for end in ("least", "most"))
    time = f"Between {clock(least)} and {clock(most)}" if most > 1.2 * least else f"About {clock(most)}"
    return f"{time}, about {float(answer['memory_bytes']) / 1024**3:.1f} GB on {where}."
