"""The commands. The Slicer panel runs them in its child process, as ``agg2exp task FILE``.

Exit codes: 0 done; 2 an input or output cannot be used (one sentence on standard error); 130 cancelled.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from Agg2ExpLib import __version__
from Agg2ExpLib.cli.common import close_bars
from Agg2ExpLib.cli.families import add_all
from Agg2ExpLib.cli.screen import UnshownError, forget_output, show_any_letter
from Agg2ExpLib.device import is_out_of_memory, keep_freed_memory
from Agg2ExpLib.errors import Agg2ExpError, Cancelled

_TWO_WORDS = (
    ("cohort", "import"),
    ("cohort", "report"),
    *(("model", word) for word in ("list", "inspect", "add", "trust", "remove")),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    show_any_letter()
    if arguments is None:
        # The process is ours: the console script's, or the panel's child.
        keep_freed_memory()
    options = argparse.Namespace()
    try:
        options = parsed(sys.argv[1:] if arguments is None else arguments)
        _stop_on_signals()
        options.run(options)
        return 0
    except UnshownError as error:
        return _unshown(error.reason, options)
    except (Exception, KeyboardInterrupt) as error:
        sentence, code = _outcome(error, options)
        if not sentence:
            raise
        _complain(sentence)
        return code
    finally:
        forget_output()


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the words of a command line; ends the program with a usage line when they cannot be read."""
    return _parser().parse_args(_joined(arguments))


def _joined(arguments: Sequence[str]) -> list[str]:
    """Make one command of two words; a folder of cases that is named like the second is given as ``./report``."""
    first, rest = arguments[:2], arguments[2:]
    return [" ".join(first), *rest] if tuple(first) in _TWO_WORDS else list(arguments)


def _outcome(error: BaseException, options: argparse.Namespace) -> tuple[str, int]:
    """Return the sentence about an error and the exit code; an empty one for a fault of our own."""
    if isinstance(error, (KeyboardInterrupt, Cancelled)):
        if getattr(options, "resume", False) or "goes_on" in options:
            return "cancelled; what is finished is kept, and the same command goes on from it", 130
        return "cancelled; nothing incomplete was left behind", 130
    if isinstance(error, Agg2ExpError):
        return str(error), 2
    if is_out_of_memory(error):
        return ("not enough memory; try --recompute, fewer classes (--classes), or a smaller --window"), 2
    if isinstance(error, OSError) and error.filename is not None:
        # Such as a name that is too long, or a folder that may not be entered, wherever it was touched first.
        return f"{error.filename}: {error.strerror}; check the path and the permission to use it", 2
    return "", 1


def _unshown(reason: str, options: argparse.Namespace) -> int:
    """Return the exit code when what was to be shown cannot be; what is in files is done."""
    if not reason:
        return 0
    out = getattr(options, "out", None)
    step = "make room there, or send it elsewhere" if out is None else f"the work is done, and its results are in {out}"
    _complain(f"standard output cannot be written ({reason}); {step}")
    return 2 if out is None else 0


def _complain(sentence: str) -> None:
    close_bars()
    # The exit code tells too, where nothing can be shown.
    with contextlib.suppress(OSError):
        print(f"agg2exp: {' '.join(sentence.split())}", file=sys.stderr)


def _stop_on_signals() -> None:
    """Let a kind kill (SIGTERM) clean up as Ctrl-C (SIGINT) does, which a shell's background job would ignore."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, stop)
    except ValueError:
        # Signals can be set in the main thread only; a caller in another thread handles its own.
        return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agg2exp",
        description="What did a 3D segmentation network look at? Voxel attributions and RoI importance for CT.",
    )
    parser.add_argument("--version", action="version", version=f"agg2exp {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_all(commands)
    return parser
