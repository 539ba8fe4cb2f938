"""The log: what the child process said, capped, and copied with one button."""

from __future__ import annotations

from collections import deque
from typing import Any

import qt

#: Lines kept; a child that says more pushes the oldest out.
MOST_LINES = 2000
_LONGEST = 500
# Lines drawn at a time: more would hold up the window.
_AT_ONCE = 250


class LogSection:
    """The last section; it draws a little at a time, however fast lines come."""

    def __init__(self, ui: Any) -> None:
        self.frame, self.text = ui.logCollapsibleButton, ui.logTextEdit
        self._waiting: deque[str] = deque(maxlen=MOST_LINES)
        self.text.setMaximumBlockCount(MOST_LINES)
        ui.copyLogButton.clicked.connect(lambda *_: self.copy())
        ui.clearLogButton.clicked.connect(lambda *_: self.clear())
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(50)
        self._timer.timeout.connect(lambda *_: self._draw(_AT_ONCE))

    def add(self, lines: list[str]) -> None:
        """Add lines."""
        self._waiting.extend(line if len(line) <= _LONGEST else line[:_LONGEST] + " …" for line in lines)
        # A running single shot is left to run: restarting it would put the drawing off as long as lines come.
        if not self._timer.isActive():
            self._timer.start()

    def content(self) -> str:
        """Return the whole log."""
        self._draw(MOST_LINES)
        return str(self.text.toPlainText())

    def copy(self) -> None:
        """Put the log on the clipboard."""
        qt.QApplication.clipboard().setText(self.content())

    def clear(self) -> None:
        """Empty it."""
        self._waiting.clear()
        self.text.clear()

    def stop(self) -> None:
        """Draw nothing more."""
        self._timer.stop()

    def _draw(self, count: int) -> None:
        lines = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        if lines:
            self.text.appendPlainText("\n".join(lines))
        if self._waiting:
            self._timer.start()
