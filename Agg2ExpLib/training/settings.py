"""What one training run does; the defaults are the paper's recipe (Swin UNETR, AdamW, Dice + cross-entropy, cosine)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from Agg2ExpLib.anatomy import THORAX_17
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.card import ModelCard

# Of transformer blocks, in any Swin UNETR.
_STAGES = 4


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training run; lengths in voxels unless said otherwise.

    Attributes
    ----------
    steps, batch_size : int
        Optimiser steps, and patches per step and process.
    learning_rate, weight_decay, warmup : float, float, int
        AdamW; the rate rises over ``warmup`` steps and then falls to 0 along a cosine.
    average : float
        Decay of the running mean of the weights that becomes the model; 0 takes the last weights.
    balanced : float
        Share of patches centred on a class drawn evenly, the rest lie anywhere.
    margin : int
        Voxels that a patch may reach beyond the scan, into air; a wide margin teaches wide fields of view.
    focus : tuple of str
        Classes that half of those centred patches are drawn for: the small or difficult ones. Empty for none.
    class_weights : str
        Weights of the classes in the cross-entropy: ``"none"``, or ``"root"`` for the inverse square root of how
        often a class occurs, so that a gland of a few hundred voxels is not given up for the rest.
    start : str
        Model folder whose weights training begins with; empty begins at random.
    precision : str
        ``"mixed"`` (half precision where there is a GPU) or ``"float32"``.
    validate_every, checkpoint_every : int
        Steps between validations and checkpoints.

    Raises
    ------
    InputError
        A number outside its range, named.
    """

    name: str = "swin-unetr"
    labels: tuple[str, ...] = THORAX_17
    spacing: tuple[float, float, float] = (1.5, 1.5, 1.5)
    intensity_range: tuple[float, float] = (-1024.0, 1024.0)
    window: tuple[int, int, int] = (96, 96, 96)
    overlap: float = 0.25
    feature_size: int = 48
    depths: tuple[int, ...] = (2, 2, 2, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    attention_window: int = 7
    use_v2: bool = True
    steps: int = 30000
    batch_size: int = 2
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    warmup: int = 0
    average: float = 0.0
    balanced: float = 0.5
    margin: int = 8
    focus: tuple[str, ...] = ()
    class_weights: str = "none"
    start: str = ""
    precision: str = "mixed"
    seed: int = 0
    validate_every: int = 1000
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        for field in ("steps", "batch_size", "feature_size", "attention_window", "validate_every", "checkpoint_every"):
            if getattr(self, field) < 1:
                raise InputError(f"training setting {field} is {getattr(self, field)}: it must be at least 1")
        for field in ("weight_decay", "warmup", "seed"):
            if not 0 <= getattr(self, field) < 2**63:
                raise InputError(f"training setting {field} is {getattr(self, field)}: it must be 0 to 2^63 - 1")
        if self.feature_size % 12:
            raise InputError(f"feature size {self.feature_size} cannot be used: Swin UNETR needs a multiple of 12")
        if len(self.depths) != _STAGES or len(self.heads) != _STAGES or min(*self.depths, *self.heads) < 1:
            raise InputError(f"depths {self.depths} and heads {self.heads}: give {_STAGES} numbers of at least 1 each")
        uneven = [heads for stage, heads in enumerate(self.heads) if self.feature_size * 2**stage % heads]
        if uneven:
            raise InputError(
                f"{uneven[0]} attention heads do not divide the channels of their stage, "
                f"{self.feature_size} in the first and twice as many in each next one"
            )
        if not 0 < self.learning_rate < 1 or not 0 <= self.average < 1 or not 0 <= self.balanced <= 1:
            raise InputError("learning rate must lie between 0 and 1, average in [0, 1), balanced in [0, 1]")
        if not 0 <= self.margin <= min(self.window):
            raise InputError(f"margin {self.margin} must be 0 to {min(self.window)} voxels, the window's shortest side")
        if self.class_weights not in ("none", "root"):
            raise InputError(f"class weights {self.class_weights!r} are unknown: use none or root")
        unknown = [name for name in self.focus if name not in self.labels]
        if unknown:
            raise InputError(f"focus names {unknown[0]!r}, which is not among the labels ({', '.join(self.labels)})")
        if self.precision not in ("mixed", "float32"):
            raise InputError(f"training precision {self.precision!r} is unknown: use mixed or float32")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def card(self, **extra: Any) -> ModelCard:
        """Return the card of the model that this run makes."""
        return ModelCard(
            name=self.name,
            labels=self.labels,
            spacing=self.spacing,
            intensity_range=self.intensity_range,
            window=self.window,
            overlap=self.overlap,
            blending="gaussian",
            architecture={
                "name": "SwinUNETR",
                "arguments": {
                    "in_channels": 1,
                    "out_channels": len(self.labels),
                    "feature_size": self.feature_size,
                    "depths": list(self.depths),
                    "num_heads": list(self.heads),
                    "window_size": self.attention_window,
                    "use_v2": self.use_v2,
                    "spatial_dims": 3,
                },
            },
            **extra,
        )
