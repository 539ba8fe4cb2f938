"""A network as a program: TorchScript (``.ts``, ``.pt``) or torch.export (``.pt2``). Reading one runs code: only with trust.

A softmax or sigmoid at the end of it is found in its graph and left out, so that the logits themselves are explained; that
the rest is unchanged is seen from its answers.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.architectures import first_output
from Agg2ExpLib.models.library import check_trusted
from Agg2ExpLib.models.metadata import fields_of_metadata
from Agg2ExpLib.models.model import SegmentationModel
from Agg2ExpLib.models.programs import (
    ASKED_OF_PROGRAM,
    Stated,
    card_of_program,
    decision_of,
    preparation,
    scale_of,
    told_decision,
    told_scale,
    tried,
)
from Agg2ExpLib.models.registry import Format, register
from Agg2ExpLib.models.untrusted import sha256

if TYPE_CHECKING:
    import torch

_MAX_METADATA = 1_000_000


def _kind(path: Path) -> str:
    """Return "script", "export" or nothing, by the names in the file."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return ""
    if any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names):
        return "script"
    exported = any(name.endswith(("/archive_format", "serialized_exported_program.json")) for name in names)
    return "export" if exported else ""


def _load(source: str, options: Mapping[str, Any]) -> SegmentationModel:
    path, given = Path(source), dict(options)
    given.pop("trust_checkpoint", None)
    kind, digest = _kind(path), sha256(path)
    what = {"script": "a TorchScript program", "export": "a program of torch.export"}.get(kind)
    if what is None:
        raise InputError(f"{path}: is neither a TorchScript program nor one of torch.export, or it is damaged")
    check_trusted(path, digest, what)
    read = _script if kind == "script" else _exported
    try:
        program, stated = read(path)
    except InputError:
        raise
    except Exception as error:  # a damaged program, or one of another version of torch, fails in any line
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{path}: {what} that this torch cannot read ({line}); export it anew") from None
    card = card_of_program(path, given, stated)
    fixed = stated.window is not None
    x, answer = tried(_plain(program), card, path, fixed)
    decision, scale = decision_of(answer, card, path), scale_of(answer, _plain(program), x)
    from Agg2ExpLib.models.formats.program_network import Program, no_gradient, without_end

    # Read anew: torch keeps a program that ran as it was.
    shorter = None if scale == "logits" else without_end(read(path)[0], kind, scale, x, answer)
    network = Program(program, scale) if shorter is None else Program(shorter, "logits")
    assumed = [
        *card.assumptions,
        *_told_outputs(program, x),
        *told_scale(scale, shorter is not None, answer),
        *told_decision(decision),
    ]
    card = replace(card, decision=decision, extra={**card.extra, "assumed": assumed})
    return SegmentationModel(card, network, digest, path, preparation(card, path), no_gradient(network, x))


def _plain(program: Callable[..., Any]) -> Callable[[torch.Tensor], Any]:
    return lambda x: first_output(program(x))


def _told_outputs(program: Callable[..., Any], x: torch.Tensor) -> list[str]:
    import torch

    with torch.no_grad():
        found = program(x)
    several = isinstance(found, (tuple, list)) and len(found) > 1
    return [f"answer: the network answers {len(found)} outputs; the first is explained"] if several else []


def _script(path: Path) -> tuple[Any, Stated]:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.jit.load(str(path), map_location="cpu")
    program.eval()
    for parameter in program.parameters():
        parameter.requires_grad_(False)
    return program, Stated(labels=_labels(path))


def _exported(path: Path) -> tuple[Any, Stated]:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = torch.export.load(str(path))
        program: Any = found.module()
    names = found.graph_signature.user_inputs
    shapes = [tuple(node.meta["val"].shape) for node in found.graph.nodes if node.name in names]
    shape = shapes[0] if len(shapes) == 1 else ()
    if len(shape) != 5 or (isinstance(shape[0], int) and shape[0] != 1):
        taken = " and ".join(str(one) for one in shapes)
        raise InputError(
            f"{path}: takes {taken}; a program is explained that takes one batch of volumes [B, C, D, H, W], with B free or 1"
        )
    for parameter in program.parameters():
        parameter.requires_grad_(False)
    window = tuple(shape[2:])
    fixed = all(isinstance(side, int) for side in window)
    return program, Stated(int(shape[1]), window if fixed else None)


def _labels(path: Path) -> tuple[str, ...] | None:
    """Return the class names of the ``metadata.json`` that MONAI writes into a program, where there is one."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith("extra/metadata.json") and info.file_size < _MAX_METADATA:
                try:
                    found = fields_of_metadata(json.loads(archive.read(info)), path).get("labels")
                except (ValueError, RecursionError):
                    return None
                return tuple(found) if found else None
    return None


PROGRAM = register(
    Format(
        "program",
        "TorchScript or torch.export program",
        lambda source: bool(_kind(Path(source))),
        _load,
        ASKED_OF_PROGRAM,
    )
)
