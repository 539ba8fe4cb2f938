"""What did the model look at? The shown structure, its overlay, the importance table, pictures and the what-if."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import qt

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.panel import forms
from Agg2ExpLib.panel.choices import FILL_TEXTS
from Agg2ExpLib.panel.importance_table import ImportanceTable
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.panel.state import PanelState

HONESTY = (
    "Attributions show what the model relied on, not whether it is right. Research software, not a medical device."
)
#: Milliseconds that a slider must rest before the overlay follows it.
SLIDER_DELAY_MS = 120
Mode = Literal["magnitude", "signed", "off"]
OVERLAYS: tuple[tuple[Mode, str, str], ...] = (
    ("magnitude", "strength", "How much each voxel mattered (magnitude of the attribution, |E|)."),
    ("signed", "for / against", "Whether a voxel spoke for the structure or against it (signed attribution, E)."),
    ("off", "off", "No overlay."),
)


@dataclass(frozen=True)
class Overlay:
    """How the attribution is shown over the CT."""

    mode: Mode = "magnitude"
    percentile: float = 95.0
    opacity: float = 0.6
    masked: bool = False
    volume_rendering: bool = False
    coloured: bool = False


class ResultsSection:
    """The third section.

    Attributes
    ----------
    structure_changed : Signal
        With the identifier.
    overlay_changed : Signal
        With the :class:`Overlay`.
    pressed : Signal
        With the name of a button: bars, heat map, graph, graph3d, strongest, export, open, whatif.
    explanation_changed : Signal
        With the key of another explanation.
    """

    def __init__(self, layout: Any) -> None:
        self.structure_changed, self.overlay_changed, self.pressed = Signal(), Signal(), Signal()
        self.explanation_changed = Signal()
        self.frame, inner = forms.section("What did the model look at?", layout)
        self.buttons: dict[str, Any] = {}
        self.notice = forms.note()
        self.notice.setObjectName("notice")
        inner.addWidget(self.notice)
        self.explanation = forms.choice("Explanations in this scene.", "explanation")
        forms.row(inner, self.explanation, self._button("open", small=True), stretch=0)
        self.structure = forms.choice("Structure whose segmentation is explained.", "structure")
        forms.row(
            inner,
            qt.QLabel("Structure"),
            self.structure,
            self._button("previous", small=True),
            self._button("next", small=True),
            stretch=1,
        )
        self._add_overlay(inner)
        self.table = ImportanceTable(inner)
        self.meaning = forms.note()
        self.meaning.setObjectName("meaning")
        self.meaning.setVisible(False)
        inner.addWidget(self.meaning)
        forms.row(inner, *(self._button(name) for name in ("bars", "heat map", "graph")))
        forms.row(inner, self._button("graph3d"), self._button("strongest"), stretch=1)
        forms.row(inner, self._button("export"), stretch=0)
        self._add_whatif(inner)
        honesty = forms.note(HONESTY)
        small = forms.read(honesty, "font")
        small.setItalic(True)
        honesty.setFont(small)
        inner.addWidget(honesty)
        self.structure.currentIndexChanged.connect(self._on_structure)
        self.explanation.currentIndexChanged.connect(
            lambda *_: self.explanation_changed.emit(forms.chosen(self.explanation))
        )

    def _button(self, name: str, *, small: bool = False) -> Any:
        made = forms.button("", lambda: self._on_button(name), name=name, small=small)
        self.buttons[name] = made
        return made

    def _add_overlay(self, inner: Any) -> None:
        self.modes: dict[Mode, Any] = {}
        self._tips: list[tuple[Any, str]] = []
        self._group = qt.QButtonGroup(self.frame)
        line = [qt.QLabel("Overlay")]
        for mode, text, tip in OVERLAYS:
            radio = qt.QRadioButton(text)
            radio.setToolTip(tip)
            radio.setObjectName(f"overlay {mode}")
            radio.setChecked(mode == "magnitude")
            radio.toggled.connect(self._on_overlay)
            self._group.addButton(radio)
            self._tips.append((radio, tip))
            self.modes[mode] = radio
            line.append(radio)
        forms.row(inner, *line, stretch=len(line) - 1)
        self.masked = self._check("only inside segments", "Shows the overlay only where the model found structures.")
        self.rendering = self._check("3D", "Glow of the strongest attributions in the 3D view (volume rendering).")
        self.coloured = self._check("colour segments", "Colours each segment by its share instead of its own colour.")
        forms.row(inner, self.masked, self.coloured, self.rendering, stretch=2)
        fields = forms.form(inner)
        hide = "Attributions weaker than this share of all voxels are hidden (percentile of |E|)."
        self.percentile = forms.slider(0, 99.5, 95, 0.5, hide, "threshold", " %")
        fields.addRow("Hide weakest", self.percentile)
        cover = "How much the overlay covers the CT."
        self.opacity = forms.slider(0, 1, 0.6, 0.05, cover, "opacity")
        fields.addRow("Opacity", self.opacity)
        self._tips += [(self.percentile, hide), (self.opacity, cover)]
        # A slider that is dragged tells many values; the overlay of a large scan takes longer than the next one.
        self._slider_timer = qt.QTimer()
        self._slider_timer.setSingleShot(True)
        self._slider_timer.setInterval(SLIDER_DELAY_MS)
        self._slider_timer.timeout.connect(self._on_overlay)
        for widget in (self.percentile, self.opacity):
            widget.valueChanged.connect(lambda *_: self._slider_timer.start())

    def _check(self, text: str, tip: str) -> Any:
        made = qt.QCheckBox(text)
        made.setToolTip(tip)
        made.setObjectName(text)
        made.toggled.connect(self._on_overlay)
        self._tips.append((made, tip))
        return made

    def _add_whatif(self, inner: Any) -> None:
        title = qt.QLabel("What if …")
        font = forms.read(title, "font")
        font.setBold(True)
        title.setFont(font)
        inner.addWidget(title)
        self.region = forms.choice("Region that is replaced in the scan.", "what-if region")
        self.fill = forms.choice("What takes its place.", "what-if fill")
        for identifier, (name, tip) in FILL_TEXTS.items():
            self.fill.addItem(name, identifier)
            self.fill.setItemData(int(forms.read(self.fill, "count")) - 1, tip, qt.Qt.ToolTipRole)
        forms.row(inner, self.region, qt.QLabel("were"), self.fill, qt.QLabel("?"), stretch=0)
        inner.addWidget(self._button("whatif"))
        self.whatif = forms.note()
        self.whatif.setObjectName("what-if answer")
        self.whatif.setVisible(False)
        inner.addWidget(self.whatif)

    def overlay(self) -> Overlay:
        """Return how the overlay is to be shown."""
        mode: Mode = next((name for name, radio in self.modes.items() if forms.read(radio, "checked")), "off")
        return Overlay(
            mode,
            float(self.percentile.value),
            float(self.opacity.value),
            bool(forms.read(self.masked, "checked")),
            bool(forms.read(self.rendering, "checked")),
            bool(forms.read(self.coloured, "checked")),
        )

    def show_overlay(self, overlay: Overlay) -> None:
        """Set the fields without telling anybody."""
        widgets = [*self.modes.values(), self.masked, self.rendering, self.coloured, self.percentile, self.opacity]
        for widget in widgets:
            widget.blockSignals(True)
        self.modes.get(overlay.mode, self.modes["off"]).setChecked(True)
        self.masked.setChecked(overlay.masked)
        self.rendering.setChecked(overlay.volume_rendering)
        self.coloured.setChecked(overlay.coloured)
        self.percentile.value = overlay.percentile
        self.opacity.value = overlay.opacity
        self.table.show_signed(overlay.mode == "signed")
        for widget in widgets:
            widget.blockSignals(False)

    def chosen_structure(self) -> str:
        """Return the identifier of the shown structure; empty when there is none."""
        return str(forms.chosen(self.structure) or "")

    def show_structures(self, explained: Sequence[str], absent: Sequence[str], selected: str = "") -> None:
        """List the explained structures, and greyed those that the segmentation lacks."""
        self.structure.blockSignals(True)
        self.structure.clear()
        for name in explained:
            found = structure(name)
            self.structure.addItem(forms.icon(forms.patch(found.colour)), found.name, name)
        for name in absent:
            self.structure.addItem(f"{structure(name).name} (absent from the segmentation)", "")
            item = self.structure.model().item(int(forms.read(self.structure, "count")) - 1)
            item.setEnabled(False)
            item.setToolTip("The model found no voxel of it in this scan, so there is nothing to explain.")
        forms.choose(self.structure, selected or (explained[0] if explained else ""))
        self.structure.blockSignals(False)

    def show_explanations(self, titles: Sequence[tuple[str, str]], selected: str) -> None:
        """List the explanations of the scene as (key, title)."""
        self.explanation.blockSignals(True)
        self.explanation.clear()
        for key, title in titles:
            self.explanation.addItem(title, key)
        forms.choose(self.explanation, selected)
        if not titles:
            self.explanation.addItem("no explanation yet", "")
        self.explanation.setEnabled(len(titles) > 1)
        self.explanation.blockSignals(False)

    def show_regions(self, regions: Sequence[tuple[str, str, tuple[int, int, int]]], selected: str = "") -> None:
        """List what can be replaced in the what-if as (key, name, colour)."""
        before = selected or str(forms.chosen(self.region) or "")
        self.region.blockSignals(True)
        self.region.clear()
        for key, name, colour in regions:
            self.region.addItem(forms.icon(forms.patch(colour)), name, key)
        forms.choose(self.region, before)
        self.region.blockSignals(False)

    def show_state(self, state: PanelState) -> None:
        """Give the buttons their looks."""
        for name, widget in self.buttons.items():
            forms.apply_look(widget, state[name])
        usable = state["overlay"]
        for widget, tip in self._tips:
            widget.setEnabled(usable.enabled)
            widget.setToolTip(tip if usable.enabled else usable.reason)
        self.structure.setEnabled(int(forms.read(self.structure, "count")) > 0)

    def say(self, text: str) -> None:
        """Show a notice above the results; empty hides it."""
        self.notice.setText(text)
        self.notice.setVisible(bool(text))

    def say_meaning(self, text: str) -> None:
        """Show what the chosen line means; empty hides it."""
        self.meaning.setText(text)
        self.meaning.setVisible(bool(text))

    def say_whatif(self, text: str) -> None:
        """Show what changed; empty hides it."""
        self.whatif.setText(text)
        self.whatif.setVisible(bool(text))

    def step(self, by: int) -> None:
        """Show the next or the previous explained structure, round and round."""
        count = int(forms.read(self.structure, "count"))
        index = int(forms.read(self.structure, "currentIndex"))
        for _ in range(count):
            index = (index + by) % count
            if self.structure.itemData(index):
                self.structure.setCurrentIndex(index)
                return

    def _on_button(self, name: str) -> None:
        if name in ("previous", "next"):
            self.step(1 if name == "next" else -1)
        else:
            self.pressed.emit(name)

    def _on_structure(self, *_: Any) -> None:
        name = self.chosen_structure()
        if name:
            self.structure_changed.emit(name)

    def _on_overlay(self, *_: Any) -> None:
        overlay = self.overlay()
        self.table.show_signed(overlay.mode == "signed")
        self.overlay_changed.emit(overlay)
