"""An ONNX file: run by onnxruntime, without gradients, so for methods that only run the network (KernelSHAP, occlusion)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.model import SegmentationModel
from Agg2ExpLib.models.programs import (
    ASKED_OF_PROGRAM,
    Answer,
    Stated,
    as_logits,
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

_NO_GRADIENT = "an ONNX file only runs forward"


@dataclass(frozen=True, eq=False)
class OnnxNetwork:
    """A session of onnxruntime as a network; float32 on the CPU whatever it is moved to, one window at a time."""

    session: Any
    scale: Answer = "logits"

    def to(self, device: Any = None, dtype: Any = None) -> OnnxNetwork:
        """Return itself: what it answers is brought to where its question was."""
        return self

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return what stands for logits."""
        import torch

        name = self.session.get_inputs()[0].name
        windows = x.detach().float().cpu().numpy()
        answers = [self.session.run(None, {name: window[None]})[0] for window in windows]
        return as_logits(torch.cat([torch.from_numpy(one) for one in answers]), self.scale).to(x)


def _load(source: str, options: Mapping[str, Any]) -> SegmentationModel:
    path, given = Path(source), dict(options)
    given.pop("trust_checkpoint", None)
    digest = sha256(path)
    session = _session(path)
    inputs = session.get_inputs()
    shape = list(inputs[0].shape) if len(inputs) == 1 and inputs[0].type == "tensor(float)" else []
    if len(shape) != 5:
        raise InputError(f"{path}: takes no batch of volumes [B, C, D, H, W] of float32; export the network so")
    sides = tuple(shape[2:])
    fixed = all(isinstance(side, int) for side in sides)
    channels = shape[1] if isinstance(shape[1], int) else None
    card = card_of_program(path, given, Stated(channels, sides if fixed else None))
    x, answer = tried(OnnxNetwork(session), card, path, fixed)
    decision, scale = decision_of(answer, card, path), scale_of(answer, OnnxNetwork(session), x)
    assumed = [
        *card.assumptions,
        *told_scale(scale, False, answer),
        *told_decision(decision),
        "computing: by onnxruntime on the CPU in float32, whatever device and precision are asked for",
    ]
    card = replace(card, decision=decision, extra={**card.extra, "assumed": assumed})
    network: Any = OnnxNetwork(session, scale)
    return SegmentationModel(card, network, digest, path, preparation(card, path), _NO_GRADIENT)


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise InputError(f"{path}: needs onnxruntime; install it with: pip install 'agg2exp[onnx]'") from None
    choices = onnxruntime.SessionOptions()
    choices.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), choices, providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever onnxruntime says of a damaged file
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{path}: cannot be read as an ONNX file ({line}); export it anew") from None


ONNX = register(
    Format(
        "onnx",
        "ONNX file",
        lambda source: source.lower().endswith(".onnx") and Path(source).is_file(),
        _load,
        ASKED_OF_PROGRAM,
    )
)
