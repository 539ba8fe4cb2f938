"""What a child process hears of its parent on standard input: that it is to stop, or that the parent is gone.

The parent writes the line ``listen`` at the start, ``cancel`` when the work is to stop, and ``go on`` in answer to a question.
The end of the input means that the parent has died. An input that ends before the first line belongs to nobody who listens (a
shell's ``< /dev/null``, a launcher that hands none on), and the work simply goes on.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator

from Agg2ExpLib.task_file import CANCEL, GO_ON, LISTEN

#: Seconds for cleaning up once the parent is gone; nobody else would end a child that hangs in native code.
LONGEST_CLEANUP_S = 60.0
_CANCELLED_CODE = 130


class Parent:
    """The process that started this one."""

    def __init__(self) -> None:
        self._answered = threading.Event()

    def wait(self) -> None:
        """Return when the parent says that the work may go on, at once when nobody listens; a cancel interrupts."""
        # In turns: on Windows a signal does not end a wait without end.
        while not self._answered.wait(0.1):
            pass

    def go_on(self) -> None:
        """Let :meth:`wait` return."""
        self._answered.set()


def obey_parent() -> Parent:
    """Raise KeyboardInterrupt in the main thread when the parent asks for it, or is gone; once. Return who can be waited for."""
    parent = Parent()
    try:
        stream = _own_input()
    except OSError:
        # A program without any standard input.
        parent.go_on()
        return parent
    threading.Thread(target=_hear, args=(stream, interrupt_main, os._exit, parent.go_on), daemon=True).start()
    return parent


def _hear(
    stream: int, stop: Callable[[], None], leave: Callable[[int], None], go_on: Callable[[], None] = lambda: None
) -> None:
    lines = _lines(stream)
    if next(lines, None) != LISTEN:
        go_on()
        return
    for line in lines:
        if line == CANCEL:
            break
        if line == GO_ON:
            go_on()
    stop()
    # The main thread ends the process, and this thread with it, long before the parent is gone and this time is over.
    for _ in lines:
        pass
    threading.Event().wait(LONGEST_CLEANUP_S)
    leave(_CANCELLED_CODE)


def interrupt_main() -> None:
    """Raise KeyboardInterrupt in the main thread, also while it sleeps or waits."""
    if hasattr(signal, "pthread_kill"):
        # Sent to the main thread itself: sent to another one it would not wake it.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        # On Windows this also wakes a main thread that sleeps.
        signal.raise_signal(signal.SIGINT)


def _own_input() -> int:
    """Take standard input for this process alone.

    Processes that this one starts would inherit it: they could take lines away, and on Windows they would hang as they start,
    for a pipe that one thread reads answers nobody else.
    """
    stream = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return stream


def _lines(stream: int) -> Iterator[bytes]:
    """Yield lines as they come; a plain read, for a buffered one would hold a lock when the interpreter ends."""
    waiting = b""
    while True:
        try:
            data = os.read(stream, 4096)
        except OSError:
            # Windows says so when the other end was closed.
            return
        if not data:
            return
        *lines, waiting = (waiting + data).split(b"\n")
        yield from (line.strip() for line in lines)
