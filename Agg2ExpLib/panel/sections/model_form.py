"""The form under Model: which one is added, and what a bare checkpoint or a program does not say itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from Agg2ExpLib.methods import Option
from Agg2ExpLib.models.registry import format_of
from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.sections.option_controls import OptionControls
from Agg2ExpLib.panel.sections.task_line import TaskLine
from Agg2ExpLib.panel.signals import Signal

#: What may be asked -> its name, what it is, an example.
_FIELDS = {
    "labels": (
        _("Structures"),
        _(
            "What the network tells apart, in its order, background first, with commas between; or a JSON file with that list."
        ),
        "background, heart, aorta",
    ),
    "channels": (_("Scans"), _("What each volume is that the network takes: CT, or T1, FLAIR for two."), "CT"),
    "spacing": (
        _("Voxel size (mm)"),
        _("That of the scans which the network was trained on; the word scan leaves each scan its own."),
        "1.5, 1.5, 1.5",
    ),
    "orientation": (_("Orientation"), _("Directions of the network's axes, such as RAS."), "RAS"),
    "window": (
        _("Window (voxels)"),
        _("Size of the pieces (patches) that the network was trained on; the word scan is the whole scan at once."),
        "96, 96, 96",
    ),
    "intensity_range": (
        _("Intensities"),
        _("The two values that the network sees as 0 and 1, in HU for CT."),
        "-1024, 1024",
    ),
    "intensities": (
        _("Intensities"),
        _(
            "The two values that the network sees as 0 and 1; or unchanged, z-score, z-score-nonzero, min-max, percentiles."
        ),
        "-1024, 1024",
    ),
}


class ModelForm:
    """Hidden until a model is to be added.

    Attributes
    ----------
    pressed : Signal
        With the source and the options of ``agg2exp model add``, when all is said.
    """

    def __init__(self, ui: Any) -> None:
        self.pressed = Signal()
        self.frame, self.source, self.use = ui.modelAddFrame, ui.modelSourceEdit, ui.useModelButton
        self.fields, self.line = OptionControls(ui.modelFieldsFrame), TaskLine(ui.modelAddLabel)
        self.frame.setVisible(False)
        self.source.editingFinished.connect(lambda *_: self._ask())
        self.use.clicked.connect(lambda *_: self.press())

    def open(self, source: str = "") -> None:
        """Show the form for a model, with a field for each thing that a source of its kind does not say."""
        self.frame.setVisible(True)
        self.line.say("")
        self.source.setText(source)
        self._ask()

    def close(self) -> None:
        """Hide the form."""
        self.frame.setVisible(False)

    @property
    def text(self) -> str:
        """File, folder or name, as it is written there."""
        return str(widgets.read(self.source, "text")).strip()

    def press(self) -> None:
        """Hand on what was said, or say what is missing."""
        self._ask()
        said = {name: value for name, value in self.fields.values().items() if value}
        missing = [_FIELDS[name][0] for name in self.fields.widgets if name not in said]
        if not self.text:
            self.line.say(_("Name a file, a folder or a model first."))
        elif missing:
            self.line.say(
                _(
                    "The file does not say how its network is used, and nothing is guessed. Still to say: {fields}."
                ).format(fields=", ".join(missing))
            )
        else:
            self.line.say("")
            self.pressed.emit(self.text, {_option(name, value): _words(value) for name, value in said.items()})

    def _ask(self) -> None:
        """Show the fields for the source that is written there."""
        known = format_of(self.text) if self.text else None
        asked = known[0].asks if known else ()
        options = tuple(Option(name, "", str, *_FIELDS[name][:2]) for name in asked if name in _FIELDS)
        self.fields.show(options, self.fields.values())
        for name, control in self.fields.widgets.items():
            control.setPlaceholderText(_FIELDS[name][2])


def _option(name: str, value: str) -> str:
    """Return the option of the command: two numbers are a range, whatever field they stand in."""
    name = "intensity_range" if name == "intensities" and "," in value and ":" not in value else name
    return name.replace("_", "-")


def _words(value: str) -> Any:
    parts = tuple(part.strip() for part in value.split(","))
    return parts if len(parts) > 1 else Path(value) if Path(value).is_file() else value
