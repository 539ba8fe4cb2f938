"""A failed installation in words: which step, pip's last lines, the likely cause, the next action."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

#: Words of a failure -> likely cause and next step.
_CAUSES = (
    (r"declined|abort", "you chose not to install; press Apply again when you agree"),
    (r"No space left|Errno 28|disk full", "the disk is full; free some gigabytes and try again"),
    (
        r"CERTIFICATE|SSL",
        "a proxy or firewall exchanges certificates; ask your IT for its certificate and set SSL_CERT_FILE",
    ),
    (
        r"Proxy|407|Name or service|getaddrinfo|timed out|Connection|Network is unreachable|Max retries",
        "the package server cannot be reached; check the network, set HTTPS_PROXY where a proxy is needed, or install from files",
    ),
    (
        r"filename.*too long|WinError 206|path.*too long",
        "the path is too long for Windows; install Slicer in a shorter folder",
    ),
    (
        r"Permission denied|Access is denied|WinError 5",
        "Slicer's folder cannot be written; install Slicer in your own folder",
    ),
    (
        r"No matching distribution|no version|ResolutionImpossible|conflict",
        "no version fits this Slicer; update Slicer",
    ),
    (r"being used by another|in progress", "another installation is running; wait for it and try again"),
)
#: How many of pip's lines are kept for the log.
MOST_LINES = 20
# pip's log is as long as what it looked at; its end tells what went wrong.
_TAIL_BYTES = 64 * 1024
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT[\d:,]+ ?")
# What pip writes around its own failure, for its developers.
_NOISE = re.compile(r"^(Traceback|\s*File \"|\s+|Removed |Exception information)")


def explain_failure(step: str, error: BaseException, said: Sequence[str] = ()) -> str:
    """Return one sentence: which step, its last words, the likely cause and what to do next.

    Parameters
    ----------
    step : str
        What was done, such as ``"installing monai"``.
    error : BaseException
        What was raised.
    said : sequence of str
        What pip said; see :func:`pip_words`.

    Examples
    --------
    >>> explain_failure("installing monai", RuntimeError("User declined package installation"))
    'installing monai did not succeed: you chose not to install; press Apply again when you agree'
    """
    words = "\n".join([_words(error), *said])
    last = _last([*_words(error).splitlines(), *said])
    for pattern, cause in _CAUSES:
        if re.search(pattern, words, re.IGNORECASE):
            declined = "declined" in words.lower()
            return f"{step} did not succeed: {cause}" + ("" if declined else f" (it said: {last})")
    return f"{step} did not succeed (it said: {last}); restart Slicer and try again, or press Check environment"


@contextlib.contextmanager
def pip_words() -> Iterator[list[str]]:
    """Have pip write down what it does; the list holds its last lines afterwards.

    The functions of Slicer and of the PyTorch extension print pip's words to the console and raise an error without them.
    """
    lines: list[str] = []
    before = os.environ.get("PIP_LOG")
    with tempfile.TemporaryDirectory(prefix="Agg2Exp-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "pip.log"
        os.environ["PIP_LOG"] = str(file)
        try:
            yield lines
        finally:
            if before is None:
                del os.environ["PIP_LOG"]
            else:
                os.environ["PIP_LOG"] = before
            lines += _read(file)


def _read(file: Path) -> list[str]:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - _TAIL_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [_STAMP.sub("", line).rstrip() for line in text.splitlines()]
    return [line for line in lines if line and not _NOISE.match(line)][-MOST_LINES:]


def _words(error: BaseException) -> str:
    # Slicer's own errors carry open streams there instead of texts.
    parts = [str(error), *(part for name in ("stderr", "output") if isinstance(part := getattr(error, name, ""), str))]
    return "\n".join(part for part in parts if part) or type(error).__name__


def _last(lines: Sequence[str]) -> str:
    there = [line.strip() for line in lines if line.strip()]
    errors = [line for line in there if line.startswith("ERROR:")]
    return ((errors or there)[-1] if there else "nothing")[:200]
