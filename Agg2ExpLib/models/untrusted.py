"""Reading weights files that may come from anyone: nothing in them is run, no claim of theirs takes memory.

safetensors holds only numbers and is preferred. A ``.pt`` file is a pickle, a small program: it is read only by
torch's restricted unpickler (``weights_only=True``), and only by a torch in which the known ways around it are closed.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.weight_sets import found_instead, sets_of

if TYPE_CHECKING:
    import torch

#: File endings of weights, in order of preference.
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")

#: The first torch whose restricted unpickler has no known hole (CVE-2025-32434 and CVE-2026-24747 are fixed in it).
SAFE_TORCH = (2, 10)

_MAX_BYTES = 16 * 2**30
_MAX_HEADER_BYTES = 16 * 2**20
_MAX_TENSORS = 100_000
_CHUNK = 2**20
# Networks may share a tensor under two or three names, nnU-Net's under four, never under many.
_MAX_SHARING = 4
# The first torch that can be told a global's name besides its object.
_NAMED_GLOBALS_TORCH = (2, 6)


def read_sets(path: str | Path, trust_checkpoint: bool = False) -> dict[str, dict[str, torch.Tensor]]:
    """Read every set of weights in a file, on the CPU; :func:`Agg2ExpLib.models.weight_sets.choose` tells which is meant.

    Parameters
    ----------
    path
        A ``.safetensors`` file or a checkpoint saved by ``torch.save``; what it is is told from its content.
    trust_checkpoint
        For ``torch.save`` files only: read them with a torch older than 2.10 too, and allow NumPy numbers beside the
        weights. Nothing else is allowed by it; whole pickled models stay refused.

    Returns
    -------
    dict
        Key in the file -> name -> tensor; the key is empty for tensors that no key wraps. Use :func:`sound_tensors` on the chosen.

    Raises
    ------
    InputError
        When the file is missing, damaged, of another kind, would run code, or holds no tensors.
    """
    path = Path(path)
    if _is_safetensors(path):
        return {"": _read_safetensors(path)}
    content = _read_content(path, trust_checkpoint, numpy_numbers=trust_checkpoint)
    found = sets_of(content)
    if not found:
        raise InputError(
            f"{path}: holds no network weights that can be told apart by name (a state dict of named tensors is expected); "
            f"{found_instead(content)}; save the network's state_dict()"
        )
    return found


def read_checkpoint(path: str | Path, trust_checkpoint: bool = False) -> Mapping[str, Any]:
    """Read a training checkpoint: its mapping of plain values and tensors, with NumPy numbers allowed among them.

    Parameters
    ----------
    path
        A file of ``torch.save``.
    trust_checkpoint
        Read it with a torch older than 2.10 too.

    Raises
    ------
    InputError
        As :func:`read_sets`; or the file holds no mapping.
    """
    path = Path(path)
    if _is_safetensors(path):
        raise InputError(f"{path}: holds weights alone; the checkpoint that the training program wrote is needed")
    content = _read_content(path, trust_checkpoint, numpy_numbers=True)
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: is no training checkpoint (a mapping is expected, not {type(content).__name__})")
    return content


def sound_tensors(tensors: Mapping[str, Any], path: str | Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint as float32, whole-number tensors keep their type.

    Raises
    ------
    InputError
        One that is no ordinary tensor, claims more than was stored, or is not finite.
    """
    import torch

    path = Path(path)
    found = {str(name): value for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    _check_claims(found, path)
    return {name: _sound(name, tensor, path) for name, tensor in found.items()}


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, read in pieces.

    Raises
    ------
    InputError
        When the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    return digest.hexdigest()


def _is_safetensors(path: Path) -> bool:
    """Look at the first bytes: a file keeps its kind when someone renames it."""
    head, size = _head(path)
    if not size:
        raise InputError(f"{path}: is empty; the download or the copy did not finish")
    if size > _MAX_BYTES:
        raise InputError(f"{path}: is larger than {_MAX_BYTES // 2**30} GiB, so it is not a segmentation model")
    if head[8:9] == b"{":
        return True
    if path.suffix.lower() == ".safetensors":
        raise InputError(f"{path}: is not a safetensors file, although its name says so")
    return False


def _head(path: Path, count: int = 9) -> tuple[bytes, int]:
    try:
        with path.open("rb") as stream:
            return stream.read(count), path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    _check_safetensors_header(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except (SafetensorError, ValueError, OSError, KeyError) as error:
        raise InputError(f"{path}: is a damaged safetensors file ({error})") from None


def _check_safetensors_header(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > min(size - 8, _MAX_HEADER_BYTES):
            raise InputError(f"{path}: is a damaged safetensors file (its header is longer than the file allows)")
        header = stream.read(length)
    try:
        entries = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        last = max(ends, default=0)
    except (ValueError, RecursionError, TypeError, KeyError, IndexError, AttributeError):
        raise InputError(f"{path}: is a damaged safetensors file (its header cannot be read)") from None
    if len(ends) > _MAX_TENSORS or last != size - 8 - length:
        raise InputError(f"{path}: is a damaged safetensors file ({size} bytes do not match its header)")


def _read_content(path: Path, trust_checkpoint: bool, numpy_numbers: bool) -> Any:
    _check_container(path)
    import torch

    if _torch_version() < SAFE_TORCH and not trust_checkpoint:
        raise InputError(
            f"{path}: torch {torch.__version__} has known holes in reading such files; upgrade torch to "
            f"{SAFE_TORCH[0]}.{SAFE_TORCH[1]}, convert the file to safetensors, or pass --trust-checkpoint if you "
            "trust where it came from"
        )
    try:
        with _numpy_numbers() if numpy_numbers else nullcontext():
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: {_refusal(str(error))}") from None
    except Exception as error:  # a damaged file can fail in any line of the reader
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise InputError(f"{path}: is damaged or is not a PyTorch checkpoint ({reason})") from None


def _check_container(path: Path) -> None:
    """Refuse before unpickling what can be told from the outside."""
    if not zipfile.is_zipfile(path):
        # Checkpoints from before torch 1.6 are a bare pickle, whose first byte is the protocol opcode.
        if _head(path)[0][:1] != b"\x80":
            raise InputError(
                f"{path}: is neither a safetensors file nor a PyTorch checkpoint, or its download did not finish"
            )
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise InputError(f"{path}: is a damaged PyTorch checkpoint ({error})") from None
    names = [entry.filename for entry in entries]
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise InputError(
            f"{path}: is a TorchScript program; its weights are needed instead: save the network's state_dict"
        )
    if not any(name.endswith("/data.pkl") for name in names):
        raise InputError(f"{path}: is a zip file, but not a PyTorch checkpoint")
    total = sum(entry.file_size for entry in entries)
    # torch.save stores without compression; anything else unfolds to more than the file's own size.
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or total > path.stat().st_size:
        raise InputError(f"{path}: is packed in a way that torch.save never does; it is not read")


@contextmanager
def _numpy_numbers() -> Iterator[None]:
    """Let the restricted unpickler make NumPy numbers: training programs save the best score beside the weights."""
    import numpy as np
    import torch

    if _torch_version() < _NAMED_GLOBALS_TORCH:
        yield
        return
    core = getattr(np, "_core", None) or np.core
    dtypes = [getattr(np.dtypes, name) for name in ("Float32DType", "Float64DType", "Int32DType", "Int64DType")]
    scalar: Any = core.multiarray.scalar
    names: list[Any] = [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *dtypes,
    ]
    with torch.serialization.safe_globals(names):
        yield


def _torch_version() -> tuple[int, ...]:
    import torch

    return tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])


def _refusal(reason: str) -> str:
    if "numpy" in reason and ("multiarray" in reason or "dtype" in reason):
        return (
            "holds NumPy values beside the weights; convert it to safetensors, or pass --trust-checkpoint if you trust "
            "where it came from"
        )
    return (
        "holds more than weights (a whole pickled model, or code that would run on reading); it was not read and "
        "nothing in it was run: save the network's state_dict, best as safetensors"
    )


def _check_claims(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse views that claim more than was stored: copying them would take the memory that they claim."""
    import torch

    claimed = 0
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
            raise InputError(f"{path}: {name} is not an ordinary tensor (quantised, sparse or complex); save floats")
        claimed += tensor.numel() * tensor.element_size()
    if claimed > _MAX_SHARING * path.stat().st_size:
        raise InputError(f"{path}: its tensors claim more numbers than the file holds; it is damaged or hostile")


def _sound(name: str, tensor: torch.Tensor, path: Path) -> torch.Tensor:
    """Return a tensor as float32, or refuse one that is not finite."""
    import torch

    if not tensor.is_floating_point():
        return tensor.detach()
    plain = tensor.detach().to(torch.float32).contiguous()
    if not torch.isfinite(plain).all():
        raise InputError(f"{path}: weights contain NaN or infinite numbers ({name}); the training has failed")
    return plain
