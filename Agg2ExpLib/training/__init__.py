"""Training of a segmentation network by the paper's recipe, resumable, on one or several GPUs or the CPU."""

from Agg2ExpLib.training.loop import TrainingSettings, train

__all__ = ["TrainingSettings", "train"]
