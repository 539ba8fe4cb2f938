"""What a game is about: F_c over confirmed or denied voxels, Dice, soft Dice, and false-positive volume.

The first two are weighted sums of logits like F_c, so everything that is fast for F_c is fast for them. The others read
the stitched prediction of each masked scan as a whole; windows that no removed supervoxel touches reuse their logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from Agg2ExpLib.case.objective import Objective, bounding_box
from Agg2ExpLib.case.segmentation import settled
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods import VALUE_FUNCTIONS
from Agg2ExpLib.methods.games.masking import MaskedValues

# Bytes of clean logits kept for reuse.
_KEPT_LOGITS = 2 * 1024**3


def is_linear(value: str) -> bool:
    """Tell whether a value function is a weighted sum of logits.

    Raises
    ------
    InputError
        An unknown one.
    """
    if value not in VALUE_FUNCTIONS:
        raise InputError(f"unknown value function {value!r}: use {', '.join(VALUE_FUNCTIONS)}")
    return VALUE_FUNCTIONS[value][0]


def restricted(
    objectives: Sequence[Objective], value: str, truth: np.ndarray | None, windows: Windows
) -> list[Objective]:
    """Return the objectives of a linear value function: all of M_c, or what the truth confirms or denies of it.

    Parameters
    ----------
    objectives : sequence of Objective
        F_c.
    value : str
        ``"logit"``, ``"true-positive"`` or ``"false-positive"``.
    truth : ndarray of int, the volume's shape
        True class at each voxel; needed by the last two.
    windows : Windows
        Over the volume.

    Raises
    ------
    InputError
        The truth is missing.
    """
    if value == "logit":
        return list(objectives)
    if truth is None:
        raise InputError(f"value function {value!r} needs the truth; give it with --truth FILE")
    return [_restrict(objective, value == "true-positive", truth, windows) for objective in objectives]


def _restrict(objective: Objective, confirmed: bool, truth: np.ndarray, windows: Windows) -> Objective:
    same = truth[objective.box] == objective.class_index
    weight = np.where(same if confirmed else ~same, objective.weight, 0.0)
    if not weight.any():
        return replace(objective, voxels=0, windows=())
    mask = np.zeros(windows.volume_shape, dtype=bool)
    mask[objective.box] = weight > 0
    box = bounding_box(mask)
    inner = tuple(slice(n.start - o.start, n.stop - o.start) for n, o in zip(box, objective.box, strict=True))
    # The value at the clean scan follows from the game itself.
    return Objective(
        objective.class_index, box, weight[inner], tuple(windows.touching(mask)), float("nan"), int(mask.sum())
    )


class PredictionValues(MaskedValues):
    """Dice, soft Dice or false-positive volume of each class in the prediction of masked scans.

    Parameters
    ----------
    *arguments, **options
        As :class:`MaskedValues`; each objective only names its class.
    value : str
        ``"dice"``, ``"soft-dice"`` or ``"false-positive-volume"``.
    reference : ndarray of int, shape (i, j, k)
        The truth, or the first prediction.
    n_classes : int
        The network's outputs.
    voxel_ml : float
        Volume of a voxel, ml.
    """

    def __init__(
        self,
        *arguments: object,
        value: str,
        reference: np.ndarray,
        n_classes: int,
        voxel_ml: float = 1.0,
        **options: object,
    ) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        if reference.shape != self.windows.volume_shape:
            raise InputError(
                f"the truth has shape {reference.shape}, but the scan on the model's grid has {self.windows.volume_shape}"
            )
        self.value, self.n_classes, self.voxel_ml = value, n_classes, voxel_ml
        self._reference = windows_pad(self.windows, reference, -1)
        self._clean: dict[int, torch.Tensor] = {}

    @property
    def relevant(self) -> list[int]:
        """Every window: a false positive may appear anywhere."""
        return list(range(len(self.windows)))

    def of_scan(self, kept: np.ndarray, detail: str = "") -> np.ndarray:
        """Return the value of every class in each coalition of the whole scan, shape (n, classes)."""
        out = np.empty((len(kept), len(self.objectives)))
        for number, row in enumerate(kept):
            key = (-1, np.packbits(row).tobytes())
            if key not in self.store:
                self.store.add([(key, self._of_coalition(row, detail))])
            else:
                self.progress.advance(len(self.windows), detail)
            out[number] = self.store[key]
        return out

    def _of_coalition(self, row: np.ndarray, detail: str) -> np.ndarray:
        channels = [objective.class_index for objective in self.objectives]
        sums = np.zeros((5, len(channels)))
        runs = self._windows(row, detail)
        for where, logits in settled(runs, self.windows, self.n_classes, self.dtype, self.device):
            reference = self._reference[where].to(self.device)
            scan = reference >= 0
            label, probability = logits.argmax(dim=0), logits.softmax(dim=0)
            for column, channel in enumerate(channels):
                real, said = reference == channel, (label == channel) & scan
                soft = probability[channel] * scan
                for line, part in enumerate((said, said & real, real, soft, soft * real)):
                    sums[line, column] += float(part.double().sum())
        found, both, true, share, common = sums
        with np.errstate(invalid="ignore"):
            if self.value == "dice":
                return np.where(found + true > 0, 2 * both / (found + true), 0.0)
            if self.value == "soft-dice":
                return np.where(share + true > 0, 2 * common / (share + true), 0.0)
        return np.asarray((found - both) * self.voxel_ml)

    def _windows(self, row: np.ndarray, detail: str) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield every window's logits; those that the coalition leaves as they are come from the clean scan."""
        removed = torch.from_numpy(np.concatenate([[False], ~row]))
        size = self.n_classes * int(np.prod(self.windows.window)) * self.dtype.itemsize
        for index in range(len(self.windows)):
            touched = bool((~row[self.players[index] - 1]).any())
            logits = self._clean.get(index) if not touched else None
            if logits is None:
                where = self.windows.slices(index)
                gone = removed[self._labels[where].long()].to(self.device)
                logits = self._run(torch.where(gone, torch.zeros_like(self._padded[where]), self._padded[where])[None])[
                    0
                ]
                logits = logits.to(self.dtype)
                if not touched and (len(self._clean) + 1) * size <= _KEPT_LOGITS:
                    self._clean[index] = logits.cpu()
            self.progress.advance(1, detail)
            yield index, logits.to(self.device)


def windows_pad(windows: Windows, volume: np.ndarray, outside: int) -> torch.Tensor:
    """Pad a label volume to the windows with a value that is no class."""
    padded = torch.full(windows.padded_shape, outside, dtype=torch.int32)
    windows.unpad(padded)[...] = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.int32))
    return padded
