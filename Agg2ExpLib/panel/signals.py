"""A plain Python signal: custom Qt signals crash PythonQt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any


class Signal:
    """Calls everything that is connected to it, in order; one that fails does not keep the others from hearing.

    Examples
    --------
    >>> heard = []
    >>> signal = Signal()
    >>> signal.connect(heard.append)
    >>> signal.emit("done")
    >>> heard
    ['done']
    """

    def __init__(self) -> None:
        self._listeners: list[Callable[..., Any]] = []

    def connect(self, listener: Callable[..., Any]) -> None:
        """Add a listener."""
        self._listeners.append(listener)

    @property
    def heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    def emit(self, *values: Any) -> None:
        """Call every listener."""
        for listener in list(self._listeners):
            try:
                listener(*values)
            except Exception:
                logging.exception("Agg2Exp: %r failed", listener)
