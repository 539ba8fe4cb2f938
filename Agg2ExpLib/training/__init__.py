"""Training of a segmentation network by the paper's recipe, resumable, on one or several GPUs or the CPU."""

from __future__ import annotations

from typing import Any

from Agg2ExpLib.training.settings import TrainingSettings

__all__ = ["TrainingSettings", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        from Agg2ExpLib.training.loop import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
