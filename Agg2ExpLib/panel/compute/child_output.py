"""What a child process says: bytes in pieces -> progress events, one result, and plain lines for the log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from Agg2ExpLib.progress import Event

#: A longer line is no progress event of ours; it is cut, so that a child cannot fill the memory.
LONGEST_LINE = 1_000_000
_FIELDS = set(Event.__dataclass_fields__)


class LineReader:
    r"""Joins pieces of a byte stream to lines.

    Examples
    --------
    >>> reader = LineReader()
    >>> list(reader.feed(b"one\ntw")), list(reader.feed(b"o\n")), reader.rest()
    (['one'], ['two'], '')
    """

    def __init__(self) -> None:
        self._piece = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """Yield the lines that are complete now, without their ends; bytes that are no UTF-8 are marked."""
        *lines, self._piece = (self._piece + data).split(b"\n")
        if len(self._piece) > LONGEST_LINE:
            lines.append(self._piece)
            self._piece = b""
        for line in lines:
            yield _decoded(line)

    def rest(self) -> str:
        """Return what came after the last line end."""
        piece, self._piece = self._piece, b""
        return _decoded(piece)


def parse_line(line: str) -> Event | dict[str, Any] | str:
    """Tell what one line of standard output is.

    Returns
    -------
    Event, dict or str
        A progress event as :class:`~Agg2ExpLib.progress.JsonLinesSink` writes it; a JSON object that a command answers
        with; or anything else as text.

    Examples
    --------
    >>> parse_line('{"stage": "attribution", "done": 3, "total": 9}').done
    3
    >>> parse_line('{"windows": 8}')
    {'windows': 8}
    >>> parse_line("Downloading ...")
    'Downloading ...'
    """
    if not line.startswith("{"):
        return line
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(found, dict):
        return line
    event = _event(found) if {"stage", "done", "total"} <= set(found) <= _FIELDS else None
    return event or found


def _event(found: dict[str, Any]) -> Event | None:
    left = [found.get(key) for key in ("seconds_left", "least_left", "most_left")]
    numbers = (found["done"], found["total"])
    texts = (found["stage"], found.get("detail", ""), found.get("kind", "progress"))
    if not all(isinstance(number, int) for number in numbers) or not all(isinstance(text, str) for text in texts):
        return None
    if not all(one is None or isinstance(one, (int, float)) for one in left):
        return None
    return Event(found["stage"], *numbers, texts[1], left[0], texts[2], *left[1:])


def _decoded(line: bytes) -> str:
    # A bar that is drawn over itself ends its states with a carriage return; only the last state matters.
    text = line[:LONGEST_LINE].decode("utf-8", errors="replace").rstrip("\r")
    return text.rpartition("\r")[2]
