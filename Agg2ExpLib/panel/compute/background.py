"""Work that Python must do in this process without holding up the window: writing a scan for the child process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import qt

from Agg2ExpLib.panel.signals import Signal


def load_libraries() -> None:
    """Import what writes volumes and measures them now, before work begins: importing it later would hold up the window."""
    import importlib

    for name in ("SimpleITK", "scipy.ndimage"):
        importlib.import_module(name)


class Background:
    """Runs a function in a thread; nothing in it may touch Qt or the scene.

    Attributes
    ----------
    finished : Signal
        With the function's result and the exception that ended it (one of them is ``None``), in the GUI thread.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self.finished = Signal()
        self._result: Any = None
        self._error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._timer = qt.QTimer()
        self._timer.setInterval(10)
        self._timer.timeout.connect(self._look)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()
        self._timer.start()

    def wait(self) -> None:
        """Return when the function has, at once when it never began; the signal comes with the next turn of the event loop."""
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._result = self._work()
        except Exception as error:
            self._error = error

    def _look(self, *_: Any) -> None:
        # Slicer's event loop holds Python's lock; joining lets go of it, so that the thread gets on.
        self._thread.join(0.005)
        if not self._thread.is_alive():
            self._timer.stop()
            # Python may collect this object in another thread, where a timer must not end.
            self._timer.deleteLater()
            self.finished.emit(self._result, self._error)
