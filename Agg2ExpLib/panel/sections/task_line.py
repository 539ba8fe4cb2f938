"""Where a user reads how work is going: the strip at the top of the panel, and a line in the section that asked for it."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.progress import Event


class TaskLine:
    """Shows how far a task is and how it ended.

    Parameters
    ----------
    label : QLabel
        Of the .ui; hidden while there is nothing to say.
    bar : QProgressBar, optional
        Where there is one; hidden while nothing runs.
    """

    def __init__(self, label: Any, bar: Any = None) -> None:
        self.label, self.bar = label, bar
        for widget in (label, bar):
            if widget is not None:
                widget.setVisible(False)

    def show(self, done: int, total: int, words: str) -> None:
        """Show a count and what it counts; a total of 0 moves without end."""
        if self.bar is not None:
            self.bar.setVisible(True)
            self.bar.setRange(0, max(total, 0))
            self.bar.setValue(min(max(done, 0), max(total, 0)))
        self.say(words)

    def end_progress(self) -> None:
        """Hide the bar; the words stay."""
        if self.bar is not None:
            self.bar.setVisible(False)

    def say(self, text: str) -> None:
        """Show a sentence; empty hides it."""
        self.label.setText(text)
        self.label.setVisible(bool(text))


class JobStrip(TaskLine):
    """Pinned above everything that scrolls: the work that somebody waits for, its Cancel, and the question before long work.

    Parameters
    ----------
    ui : object
        The widgets of the .ui by their names.

    Attributes
    ----------
    cancel_pressed, go_on_pressed : Signal
        Without values.
    """

    def __init__(self, ui: Any) -> None:
        super().__init__(ui.jobLabel, ui.jobProgressBar)
        self.cancel_pressed, self.go_on_pressed = Signal(), Signal()
        self.frame, self.cancel, self.go_on = ui.jobFrame, ui.jobCancelButton, ui.jobGoOnButton
        self._running = False
        self.cancel.clicked.connect(lambda *_: self._on_cancel())
        self.go_on.clicked.connect(lambda *_: self._on_go_on())
        self.frame.setVisible(False)

    def begin(self) -> None:
        """Show the first sign of life, drawn before this returns: what follows may take a moment."""
        self._show_running(True)
        self.go_on.setVisible(False)
        self.show(0, 0, _("Starting …"))
        qt.QCoreApplication.processEvents(qt.QEventLoop.ExcludeUserInputEvents)

    def show_event(self, event: Event) -> None:
        """Show progress in one line: stage, structure, count and the time left in all."""
        if event.kind == "question":
            self.bar.setVisible(False)
            self.go_on.setVisible(True)
            self.say(_("This takes {time} more. Go on?").format(time=describe_left(event)))
        else:
            self.show(event.done, event.total, describe_event(event))

    def end_progress(self, sentence: str = "") -> None:
        """Hide the strip; a sentence, of work that did not end well, stays until it is closed."""
        super().end_progress()
        self.go_on.setVisible(False)
        self.say(sentence)
        self._show_running(False)
        self.frame.setVisible(bool(sentence))

    def _show_running(self, running: bool) -> None:
        self._running = running
        self.frame.setVisible(True)
        self.cancel.setText(_("Cancel") if running else _("Close"))
        self.cancel.setEnabled(True)

    def _on_cancel(self) -> None:
        if not self._running:
            self.frame.setVisible(False)
            return
        self.cancel.setEnabled(False)
        self.cancel_pressed.emit()

    def _on_go_on(self) -> None:
        self.go_on.setVisible(False)
        self.say(_("Going on …"))
        self.go_on_pressed.emit()


def describe_left(event: Event) -> str:
    """Return the time left in all: one number where it is known within a tenth, else a range.

    Examples
    --------
    >>> describe_left(Event("attributions", 7, 20, least_left=100.0, most_left=540.0))
    '1 min 40 s to 9 min'
    >>> describe_left(Event("attributions", 7, 20, least_left=100.0, most_left=100.0))
    'about 1 min 40 s'
    """
    least, most = event.least_left or 0.0, event.most_left or 0.0
    if most <= 1.1 * least + 1:
        return _("about {time}").format(time=rough(most))
    return _("{least} to {most}").format(least=rough(least), most=rough(most))


def rough(seconds: float) -> str:
    """Return a time as exactly as it can be known.

    Examples
    --------
    >>> rough(3.2), rough(63), rough(1234), rough(9000)
    ('3 s', '1 min 5 s', '21 min', '2 h 30 min')
    """
    if seconds < 60:
        return _("{seconds} s").format(seconds=max(round(seconds), 1))
    if seconds < 300:
        minutes, rest = divmod(5 * round(seconds / 5), 60)
        return (
            _("{minutes} min {seconds} s").format(minutes=minutes, seconds=rest)
            if rest
            else _("{minutes} min").format(minutes=minutes)
        )
    hours, minutes = divmod(round(seconds / 60), 60)
    if not hours:
        return _("{minutes} min").format(minutes=minutes)
    return _("{hours} h {minutes} min").format(hours=hours, minutes=minutes)


def describe_event(event: Event) -> str:
    """Return progress in words.

    Examples
    --------
    >>> describe_event(Event("attributions", 7, 20, "heart", 42.0, least_left=42.0, most_left=43.0))
    'attributions: heart, 7 of 20; about 43 s left in all'
    """
    parts = [event.detail.replace("_", " ")] if event.detail else []
    if event.total > 0:
        parts.append(_("{done} of {total}").format(done=event.done, total=event.total))
    words = f"{event.stage}: {', '.join(parts)}" if parts else f"{event.stage} …"
    if event.least_left is not None:
        words = _("{stage}; {time} left in all").format(stage=words, time=describe_left(event))
    return words
