"""Child processes that need not load torch and MONAI first: forks of one process that has them, for the tests.

Loading takes many times as long as what most children of the tests do. A child is a process of its own all the same: it has the
standard streams, the surroundings, the folder and the arguments that it was started with, gets the signals that are sent to the
process that was started, and ends with it. Only on Linux, and where the library's packages are (a fresh Slicer has none of them);
elsewhere :func:`python` names the interpreter itself.
"""

import importlib.util
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

_started = {}
_ADDRESS = "AGG2EXP_TEST_SERVER"


def python():
    """Return the beginning of a command that runs a script: what stands in for ``[sys.executable]``."""
    if sys.platform != "linux" or not all(map(importlib.util.find_spec, ("torch", "monai", "sklearn", "matplotlib"))):
        return [sys.executable]
    # A process that a test has started shares the server of the tests.
    if _ADDRESS not in os.environ:
        address = Path(tempfile.mkdtemp(prefix="agg2exp_warm_", dir="/tmp")) / "s"
        surroundings = {**os.environ, "OMP_NUM_THREADS": "1"}
        words = [sys.executable, __file__, "serve", str(address)]
        # The process ends when this one has: its standard input ends then.
        server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=surroundings)
        assert server.stdout.readline() == b"ready\n"
        _started["server"] = server
        os.environ[_ADDRESS] = str(address)
    # Neither site-packages nor the user's settings of Python are needed to hand the work on.
    return [sys.executable, "-S", "-E", __file__, "run", os.environ[_ADDRESS]]


def program(folder):
    """Write a program that runs a script as :func:`python` does, for where a program is named and not a command."""
    path = Path(folder) / "warm_python"
    path.write_text(f'#!/bin/sh\nexec {shlex.join(python())} "$@"\n')
    path.chmod(0o755)
    return str(path)


def _run(address, words):
    """Hand the work to the server, pass signals on, and end as the work ends."""
    here = socket.socket(socket.AF_UNIX)
    here.connect(address)
    request = json.dumps({"words": words, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: here.sendall(bytes([number])))
    socket.send_fds(here, [len(request).to_bytes(8, "big")], [0, 1, 2])
    here.sendall(request)
    answer = here.recv(2)
    code = int.from_bytes(answer, "big", signed=True) if len(answer) == 2 else 1
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code)


def _serve(address):
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    import matplotlib.figure  # noqa: F401
    import monai.networks.nets  # noqa: F401
    import pandas as pd  # noqa: F401
    import SimpleITK  # noqa: F401
    import sklearn.ensemble  # noqa: F401
    import torch

    torch.set_num_threads(1)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()
    print("ready", flush=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listening, sys.stdin], [], [])
        if sys.stdin in ready:
            Path(address).unlink()
            Path(address).parent.rmdir()
            os._exit(0)
        there, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            _look_after(there)
        there.close()


def _look_after(there):
    """Start the work; pass on its signals and its end, and end it when whoever asked for it is gone."""
    size, streams, _, _ = socket.recv_fds(there, 8, 3)
    request = b""
    while len(request) < int.from_bytes(size, "big"):
        request += there.recv(1 << 16)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    work = os.fork()
    if work == 0:
        there.close()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpgid(0, 0)
        _work(json.loads(request), streams)
    for stream in streams:
        os.close(stream)
    while True:
        done, status = os.waitpid(work, os.WNOHANG)
        if done:
            there.sendall(os.waitstatus_to_exitcode(status).to_bytes(2, "big", signed=True))
            os._exit(0)
        ready, _, _ = select.select([there, ended], [], [], 1.0)
        if ended in ready:
            os.read(ended, 64)
        if there in ready:
            numbers = there.recv(16)
            for number in numbers:
                os.kill(work, number)
            if not numbers:
                # With all that it started itself.
                os.killpg(work, signal.SIGKILL)
                os._exit(0)


def _work(request, streams):
    import atexit
    import runpy
    import traceback

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")[0] or "utf-8"
    sys.stdin = open(0, encoding=encoding, closefd=False)  # noqa: SIM115 - as long as the process
    sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding=encoding, errors="backslashreplace", closefd=False, buffering=1)  # noqa: SIM115
    sys.argv = request["words"]
    added = os.environ.get("PYTHONPATH")
    sys.path[:1] = [str(Path(sys.argv[0]).resolve().parent), *(added.split(os.pathsep) if added else [])]
    code = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        if code == 1 and not isinstance(stop.code, int):
            print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120
    os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        _run(sys.argv[2], sys.argv[3:])
    else:
        _serve(sys.argv[2])
