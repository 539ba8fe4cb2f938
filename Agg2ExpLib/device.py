"""Devices and precisions: the one place that decides where and how exactly a network runs."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from Agg2ExpLib.errors import InputError

if TYPE_CHECKING:
    import torch

# M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD of malloc.h.
_MALLOC_OPTIONS = {-4: 0, -1: 2**31 - 1, -2: 64 * 1024**2}
_ON_A_GPU = 4
_OUT_OF_MEMORY = ("out of memory", "can't allocate", "failed to allocate")
PRECISIONS = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True)
class Compute:
    """Where, how exactly and in what portions a network runs.

    Attributes
    ----------
    device : str
        ``auto`` (a GPU that answers, else the CPU), ``cpu`` or ``cuda:N``.
    precision : str
        ``float32``, ``float64``, ``bfloat16`` or ``float16`` (GPU only). The only field that results depend on beyond rounding.
    batch_size : int, optional
        Windows per network pass; chosen by default, see :attr:`windows_at_once`. Fewer where memory does not suffice.
    memory_budget : int
        Bytes that the attributions held at one time may take; more classes are processed in groups.
    recompute : bool
        Take less memory for a gradient: a network's blocks are computed again in the backward pass.

    Raises
    ------
    InputError
        A value that is not allowed, with the allowed ones.
    """

    device: str = "auto"
    precision: str = "float32"
    batch_size: int | None = None
    memory_budget: int = 2 * 1024**3
    recompute: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"unknown precision {self.precision!r}: use {', '.join(PRECISIONS)}")
        if not isinstance(self.device, str):
            raise InputError(f"unknown device {self.device!r:.40}: use auto, cpu or cuda:N")
        for name in ("batch_size", "memory_budget"):
            value = getattr(self, name)
            if name == "batch_size" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f"{name.replace('_', ' ')} is {value!r:.40}: it must be a whole number")
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"batch size is {self.batch_size}: it must be at least 1")
        if self.memory_budget < 1:
            raise InputError(f"memory budget is {self.memory_budget} bytes: it must be positive")

    @property
    def windows_at_once(self) -> int:
        """Windows per network pass: as asked for, else 1 on the processor, where more gain nothing, and 4 on a GPU."""
        return self.batch_size or (1 if self.device == "cpu" else _ON_A_GPU)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def choose_device(name: str = "auto") -> torch.device:
    """Return the device that ``name`` asks for.

    Parameters
    ----------
    name : str
        ``"auto"`` (a GPU that answers, else the CPU), ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises
    ------
    InputError
        An unknown name, or a GPU that is not there or does not run a kernel.
    """
    import torch

    if name == "cpu":
        return torch.device("cpu")
    if name == "auto":
        return (
            torch.device("cuda:0") if torch.cuda.is_available() and _answers("cuda:0") is None else torch.device("cpu")
        )
    if name != "cuda" and not (name.startswith("cuda:") and name[5:].isdecimal()):
        raise InputError(f"unknown device {name!r}: use auto, cpu or cuda:N")
    wanted = "cuda:0" if name == "cuda" else name
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(wanted[5:]) >= count:
        there = f"there are {count} CUDA devices" if count else "there is no CUDA device"
        raise InputError(f"device {name} was asked for, but {there}; use --device auto or cpu")
    problem = _answers(wanted)
    if problem:
        raise InputError(f"device {name} does not run: {problem}; update its driver, or use --device cpu")
    return torch.device(wanted)


def list_devices() -> list[dict[str, Any]]:
    """Return every device that torch names, with its free memory, after a tiny computation on it.

    Returns
    -------
    list of dict
        ``id`` (``cpu``, ``cuda:0`` ...), ``name``, ``free_bytes`` and ``total_bytes`` (``None`` for the CPU), ``ok``, and
        ``problem`` (empty when ok). The CPU comes last.
    """
    import torch

    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        identifier = f"cuda:{index}"
        problem = _answers(identifier)
        free, total = torch.cuda.mem_get_info(index) if problem is None else (None, None)
        found.append(_entry(identifier, torch.cuda.get_device_name(index), free, total, problem))
    found.append(_entry("cpu", f"CPU, {torch.get_num_threads()} threads", None, None, _answers("cpu")))
    return found


def _entry(identifier: str, name: str, free: int | None, total: int | None, problem: str | None) -> dict[str, Any]:
    return {
        "id": identifier,
        "name": name,
        "free_bytes": free,
        "total_bytes": total,
        "ok": problem is None,
        "problem": problem or "",
    }


def _answers(name: str) -> str | None:
    """Run a tiny kernel: a device may be listed and still be too new for this build of torch."""
    import torch

    try:
        if float((torch.ones(8, device=name) * 2).sum()) == 16.0:
            return None
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return "a test computation came out wrong"


def count_cores() -> int:
    """Return how many cores this process may use, which a job scheduler may have made fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def use_threads(count: int) -> None:
    """Let the network and the resampling of scans use that many threads of this process.

    Parameters
    ----------
    count : int
        At least 1. Several processes on one machine share its cores best when each takes its part and no more.
    """
    import SimpleITK
    import torch

    torch.set_num_threads(count)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(count)


def keep_freed_memory() -> None:
    """Let the memory that networks free stay with this process: for processes of our own, on Linux with glibc; else nothing.

    By its defaults glibc gives every large block back at once, and networks take and free gigabytes a second: the kernel then
    spends a fifth of the processor time on clearing pages.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for option, value in _MALLOC_OPTIONS.items():
        set_option(option, value)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was full: torch, of the processor, and ITK say that with a RuntimeError."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)
    )


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """Return the type that weights, inputs and sums have; the half precisions keep these in float32.

    Raises
    ------
    InputError
        An unknown precision, or float16 without a GPU.
    """
    import torch

    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}: use {', '.join(PRECISIONS)}")
    if precision == "float16" and device.type != "cuda":
        raise InputError("precision float16 needs a GPU; use float32 or bfloat16 on the CPU")
    return torch.float64 if precision == "float64" else torch.float32


def running(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the context in which the network runs: half precision where asked for, fast convolutions on the processor."""
    import torch

    if precision in ("bfloat16", "float16"):
        half = torch.bfloat16 if precision == "bfloat16" else torch.float16
        return torch.autocast(device.type, dtype=half)
    if device.type == "cpu" and precision == "float32":
        from Agg2ExpLib.convolution import FastConvolutions

        return FastConvolutions()
    return contextlib.nullcontext()
