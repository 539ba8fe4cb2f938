"""What is explained: segmentation models, their cards and their files. Importing this room imports no torch.

Examples
--------
>>> from Agg2ExpLib.models import ModelCard
>>> ModelCard(name="demo", labels=["background", "heart"]).window
(96, 96, 96)
"""

from __future__ import annotations

from Agg2ExpLib.models.bundle import save_model, write_model_folder
from Agg2ExpLib.models.card import ModelCard, read_card, read_labels
from Agg2ExpLib.models.interface import Model, Part, Prepared, SigmoidRegions, Softmax, Tiling, kind_of_channel
from Agg2ExpLib.models.loading import bundled_models, find_model, known_models, load_model
from Agg2ExpLib.models.model import SegmentationModel
from Agg2ExpLib.models.module import from_module

__all__ = [
    "Model",
    "ModelCard",
    "Part",
    "Prepared",
    "SegmentationModel",
    "SigmoidRegions",
    "Softmax",
    "Tiling",
    "bundled_models",
    "find_model",
    "from_module",
    "kind_of_channel",
    "known_models",
    "load_model",
    "read_card",
    "read_labels",
    "save_model",
    "write_model_folder",
]
