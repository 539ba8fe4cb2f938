"""The screen that sentences go to: of any encoding, perhaps closed by its reader, perhaps a file on a full disk."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
import unicodedata

# Of what our own sentences hold; letters with an accent lose it, and anything else becomes a question mark.
_SPELLED = {"…": "...", "–": "-", "—": "-", "±": "+-", "×": "x", "↑": "up", "↓": "down", "→": "->", "’": "'", "“": '"', "”": '"',
            "ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "ß": "ss", "æ": "ae", "œ": "oe", "ı": "i"}  # fmt: skip


def show_any_letter() -> None:
    """Let standard output and error write what their encoding lacks in other letters, instead of failing."""
    codecs.register_error("agg2exp", _spelled)
    for stream in (sys.stdout, sys.stderr):
        # A program with a window has streams of its own, or none.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="agg2exp")


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_in_other_letters(letter, error.encoding) for letter in text), error.end


def _in_other_letters(letter: str, encoding: str) -> str:
    plain = "".join(one for one in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(one))
    for tried in (_SPELLED.get(letter, ""), plain):
        with contextlib.suppress(UnicodeEncodeError):
            if tried and tried.encode(encoding):
                return tried
    return "?"


class UnshownError(Exception):
    """What was to be shown cannot be.

    Parameters
    ----------
    reason : str
        Of the system; empty when the reader of our output went away (``agg2exp ... | head``), which is no fault.
    """

    def __init__(self, error: OSError) -> None:
        # Windows calls a closed pipe an invalid argument.
        left = isinstance(error, BrokenPipeError) or error.errno == errno.EINVAL
        self.reason = "" if left else str(error.strerror or error)
        super().__init__(self.reason)


def say(text: str) -> None:
    """Print a text.

    Raises
    ------
    UnshownError
        Standard output is closed, or a file on a full disk.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        raise UnshownError(error) from None


def forget_output() -> None:
    """Let streams that cannot be written lead nowhere, or Python would try again when it ends, and complain."""
    for stream in (sys.stderr, sys.stdout):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
                stream.flush()
