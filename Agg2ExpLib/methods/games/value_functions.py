"""What a game is about: F_c over confirmed or denied voxels, Dice, soft Dice, and false-positive volume.

The first two are weighted sums of logits like F_c, so everything that is fast for F_c is fast for them. The others read
the stitched prediction of each masked scan as a whole; windows that no removed supervoxel touches reuse their logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from Agg2ExpLib.case.objective import Objective, bounding_box
from Agg2ExpLib.case.segmentation import Segmentation, settled
from Agg2ExpLib.case.stitched import StitchedNetwork
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods.games.masking import MaskedValues
from Agg2ExpLib.methods.games.supervoxels import Supervoxels
from Agg2ExpLib.models.interface import SigmoidRegions

# Bytes of clean logits kept for reuse.
_KEPT_LOGITS = 2 * 1024**3


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
        objective.class_index,
        objective.channel,
        box,
        weight[inner],
        tuple(windows.touching(mask)),
        float("nan"),
        int(mask.sum()),
    )


@dataclass(frozen=True, eq=False)
class Reference:
    """What predictions of masked scans are compared with.

    Attributes
    ----------
    labels : ndarray of int, shape (i, j, k)
        The truth, or the first prediction.
    n_channels : int
        The network's outputs.
    voxel_ml : float
        Volume of a voxel, ml.
    """

    labels: np.ndarray
    n_channels: int
    voxel_ml: float = 1.0

    @classmethod
    def of(
        cls, segmentation: Segmentation | None, truth: np.ndarray | None, value: str, voxel_ml: float = 1.0
    ) -> Reference:
        """Return the truth where there is one, else the first prediction.

        Raises
        ------
        InputError
            Neither is there, or the model's regions overlap.
        """
        if segmentation is None:
            raise InputError(f"value function {value!r} needs the first prediction or the truth to compare with")
        if isinstance(segmentation.decision, SigmoidRegions):
            raise InputError(
                f"value function {value!r} needs one label a voxel, and this model's regions overlap; use logit"
            )
        return cls(truth if truth is not None else segmentation.labels, len(segmentation.classes), voxel_ml)


class PredictionValues(MaskedValues):
    """Dice, soft Dice or false-positive volume of each class in the prediction of masked scans.

    Parameters
    ----------
    stitched, objectives, supervoxels, store, passes, progress
        As :class:`MaskedValues`; each objective only names its class.
    value : str
        ``"dice"``, ``"soft-dice"`` or ``"false-positive-volume"``.
    reference : Reference
        What the predictions are compared with.
    """

    def __init__(
        self,
        stitched: StitchedNetwork,
        objectives: Sequence[Objective],
        supervoxels: Supervoxels,
        *,
        value: str,
        reference: Reference,
        **options: Any,
    ) -> None:
        super().__init__(stitched, objectives, supervoxels, **options)
        if reference.labels.shape != self.windows.volume_shape:
            raise InputError(
                f"the truth has shape {reference.labels.shape}, but the scan on the model's grid has "
                f"{self.windows.volume_shape}"
            )
        self.value, self.n_classes, self.voxel_ml = value, reference.n_channels, reference.voxel_ml
        self._reference = windows_pad(self.windows, reference.labels, -1)
        self._clean: dict[int, torch.Tensor] = {}

    @property
    def relevant(self) -> list[int]:
        """Every window: a false positive may appear anywhere."""
        return list(range(len(self.windows)))

    def of_scan(self, kept: np.ndarray, detail: str | None = None) -> np.ndarray:
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

    def _of_coalition(self, row: np.ndarray, detail: str | None) -> np.ndarray:
        sums = np.zeros((5, len(self.objectives)))
        runs = self._windows(row, detail)
        dtype, device = self.stitched.dtype, self.stitched.device
        for where, logits in settled(runs, self.windows, self.n_classes, dtype, device):
            reference = self._reference[where].to(device)
            scan = reference >= 0
            label, probability = logits.argmax(dim=0), logits.softmax(dim=0)
            for column, objective in enumerate(self.objectives):
                real, said = reference == objective.class_index, (label == objective.channel) & scan
                soft = probability[objective.channel] * scan
                for line, part in enumerate((said, said & real, real, soft, soft * real)):
                    sums[line, column] += float(part.double().sum())
        found, both, true, share, common = sums
        with np.errstate(invalid="ignore"):
            if self.value == "dice":
                return np.where(found + true > 0, 2 * both / (found + true), 0.0)
            if self.value == "soft-dice":
                return np.where(share + true > 0, 2 * common / (share + true), 0.0)
        return np.asarray((found - both) * self.voxel_ml)

    def _windows(self, row: np.ndarray, detail: str | None) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield every window's logits; those that the coalition leaves as they are come from the clean scan."""
        removed = torch.from_numpy(np.concatenate([[False], ~row]))
        size = self.n_classes * int(np.prod(self.windows.window)) * self.stitched.dtype.itemsize
        for index in range(len(self.windows)):
            touched = bool((~row[self.players[index] - 1]).any())
            logits = self._clean.get(index) if not touched else None
            if logits is None:
                where = self.windows.slices(index)
                gone = removed[self._labels[where].long()].to(self.stitched.device)
                copy = torch.where(gone, self._nothing, self._padded[(slice(None), *where)])
                logits = self._run(copy[None])[0].to(self.stitched.dtype)
                if not touched and (len(self._clean) + 1) * size <= _KEPT_LOGITS:
                    self._clean[index] = logits.cpu()
            self.progress.advance(1, detail)
            yield index, logits.to(self.stitched.device)


def windows_pad(windows: Windows, volume: np.ndarray, outside: int) -> torch.Tensor:
    """Pad a label volume to the windows with a value that is no class."""
    padded = torch.full(windows.padded_shape, outside, dtype=torch.int32)
    windows.unpad(padded)[...] = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.int32))
    return padded
