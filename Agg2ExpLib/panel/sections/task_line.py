"""Bar, words and Cancel of a task, in the section that asked for it."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.progress import Event


class TaskLine:
    """Shows how far a task is and how it ended.

    Parameters
    ----------
    bar, label : QProgressBar, QLabel
        Of the .ui; hidden while there is nothing to show.
    cancel : QAbstractButton, optional
        Shown while a task runs.

    Attributes
    ----------
    cancel_pressed : Signal
        Without values.
    """

    def __init__(self, bar: Any, label: Any, cancel: Any = None) -> None:
        self.cancel_pressed = Signal()
        self.bar, self.label, self.cancel = bar, label, cancel
        for widget in (bar, label):
            widget.setVisible(False)
        if cancel is not None:
            cancel.setVisible(False)
            cancel.clicked.connect(lambda *_: self.cancel_pressed.emit())

    def show_event(self, event: Event) -> None:
        """Show progress in one line: stage, structure, count and time left."""
        self.show(event.done, event.total, describe_event(event))

    def show(self, done: int, total: int, words: str) -> None:
        """Show a count and what it counts; a total of 0 moves without end."""
        self.bar.setVisible(True)
        self.bar.setRange(0, max(total, 0))
        self.bar.setValue(min(max(done, 0), max(total, 0)))
        if self.cancel is not None:
            self.cancel.setVisible(True)
        self.say(words)

    def end_progress(self) -> None:
        """Hide bar and button; the words stay."""
        self.bar.setVisible(False)
        if self.cancel is not None:
            self.cancel.setVisible(False)

    def say(self, text: str) -> None:
        """Show a sentence; empty hides it."""
        self.label.setText(text)
        self.label.setVisible(bool(text))


def describe_event(event: Event) -> str:
    """Return progress in words.

    Examples
    --------
    >>> describe_event(Event("attribution", 7, 20, "heart", 42.0))
    'attribution: heart, 7 of 20, 0:42 left in this step'
    """
    parts = [event.detail.replace("_", " ")] if event.detail else []
    if event.total > 0:
        parts.append(_("{done} of {total}").format(done=event.done, total=event.total))
    if event.seconds_left is not None:
        minutes, seconds = divmod(round(event.seconds_left), 60)
        parts.append(_("{time} left in this step").format(time=f"{minutes}:{seconds:02d}"))
    return f"{event.stage}: {', '.join(parts)}" if parts else f"{event.stage} …"
