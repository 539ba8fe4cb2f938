"""Predictions of masked copies of a scan: every class from one forward pass, and no pass that cannot change a value.

A masked copy keeps some supervoxels and sets the others to 0 (air). F_c is a sum over windows, and a window's part
depends only on those supervoxels that hold something of it: so a window is run once for each coalition *within it*, for
all classes together, and each answer is remembered as one number per class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from Agg2ExpLib.case.objective import Objective, bounding_box
from Agg2ExpLib.case.segmentation import Network, batches, check_answer
from Agg2ExpLib.case.windows import Slices, Windows
from Agg2ExpLib.device import autocast, dtype_of
from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.methods.games.value_store import ValueStore
from Agg2ExpLib.methods.gradients import PassCount, output_gradient
from Agg2ExpLib.progress import Progress

# Bytes of classes' weights within windows that are kept for the next volume.
_SHARES_BYTES = 1024**3


@dataclass(frozen=True)
class _Share:
    """What one class takes from one window: the weights of its logits within a box of the window."""

    column: int
    channel: int
    box: Slices
    weight: torch.Tensor


class LinearValues:
    """F_c of altered copies of one scan, for all classes at once.

    Parameters
    ----------
    network, windows, objectives
        As :func:`Agg2ExpLib.methods.gradients.attribute`; objectives without voxels have the value 0.
    device, precision, batch_size
        Where, how exactly, and how many windows a pass.
    passes, progress
        Counts network passes; one unit of progress a window.
    """

    def __init__(
        self,
        network: Network,
        windows: Windows,
        objectives: Sequence[Objective],
        *,
        device: torch.device | str = "cpu",
        precision: str = "float32",
        batch_size: int = 1,
        passes: PassCount | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.network, self.windows, self.objectives = network, windows, list(objectives)
        self.device = torch.device(device)
        self.dtype = dtype_of(precision, self.device)
        self.precision, self.batch_size = precision, batch_size
        self.passes, self.progress = passes or PassCount(), progress or Progress()
        self._kept_shares: dict[int, list[_Share]] = {}
        self._room = _SHARES_BYTES
        self._weight = (windows.weight.double() if self.dtype == torch.float64 else windows.weight).to(self.device)

    @cached_property
    def relevant(self) -> list[int]:
        """Windows that hold a voxel of any class: the only ones that can change a value."""
        return sorted(set().union(*(objective.windows for objective in self.objectives)))

    def to_tensor(self, x: torch.Tensor) -> torch.Tensor:
        """Bring a volume to the device, padded to the windows."""
        return self.windows.pad(x.to(device=self.device, dtype=self.dtype))

    def of_volume(self, x: torch.Tensor, detail: str = "") -> np.ndarray:
        """Return F_c of a volume (i, j, k) for every class, shape (classes,)."""
        padded, total = self.to_tensor(x), np.zeros(len(self.objectives))
        for indices in batches(self.relevant, self.batch_size):
            answer = self._run(torch.stack([padded[self.windows.slices(index)] for index in indices]))
            for index, logits in zip(indices, answer, strict=True):
                total += self._take(self._shares(index), logits[None])[0]
            self.progress.advance(len(indices), detail)
        return total

    def _run(self, batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), autocast(self.precision, self.device):
            logits = self.network(batch[:, None])
        self.passes.forward += len(batch)
        return logits

    def _shares(self, index: int) -> list[_Share]:
        """The classes' weights within a window, each cut to where it is not zero; kept while there is room."""
        if index in self._kept_shares:
            return self._kept_shares[index]
        found = []
        for column, objective in enumerate(self.objectives):
            if index in objective.windows:
                weight = output_gradient(self.windows, self._weight, objective, index)
                inside = (weight != 0).cpu().numpy()
                if inside.any():
                    box = bounding_box(inside)
                    found.append(_Share(column, objective.class_index, box, weight[box].double()))
        size = sum(8 * share.weight.numel() for share in found)
        if size <= self._room:
            self._room -= size
            self._kept_shares[index] = found
        return found

    def _take(self, shares: Sequence[_Share], logits: torch.Tensor) -> np.ndarray:
        """Return the classes' numbers from logits [B, K, ...] of one window, shape (B, classes)."""
        out = np.zeros((len(logits), len(self.objectives)))
        for share in shares:
            part = logits[:, share.channel][(slice(None), *share.box)].double()
            out[:, share.column] = (part * share.weight).flatten(1).sum(dim=1).cpu().numpy()
        if not np.isfinite(out).all():
            raise Agg2ExpError("the network answered logits that are not finite numbers; try --precision float32")
        return out


class MaskedValues(LinearValues):
    """F_c of copies of one scan in which supervoxels are kept or removed.

    Parameters
    ----------
    x : Tensor, shape (i, j, k)
        The preprocessed scan.
    supervoxels : ndarray of int, shape (i, j, k)
        0 stays always; 1 to p are the supervoxels.
    n_supervoxels : int
        p.
    store : ValueStore
        Answers already there.
    **options
        As :class:`LinearValues`.
    """

    def __init__(
        self,
        network: Network,
        windows: Windows,
        objectives: Sequence[Objective],
        x: torch.Tensor,
        supervoxels: np.ndarray,
        n_supervoxels: int,
        *,
        store: ValueStore | None = None,
        device: torch.device | str = "cpu",
        precision: str = "float32",
        batch_size: int = 1,
        passes: PassCount | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(
            network,
            windows,
            objectives,
            device=device,
            precision=precision,
            batch_size=batch_size,
            passes=passes,
            progress=progress,
        )
        self.n_supervoxels, self.store = n_supervoxels, store if store is not None else ValueStore()
        self._padded = self.to_tensor(x)
        self._labels = windows.pad(torch.from_numpy(np.ascontiguousarray(supervoxels, dtype=np.int32)))
        self._air: torch.Tensor | None = None
        self.players: dict[int, np.ndarray] = {}
        self._anything_fixed: dict[int, bool] = {}
        for index in self.relevant:
            # Removing a supervoxel that is air already changes nothing.
            holds = self._labels[windows.slices(index)][(self._padded[windows.slices(index)] != 0).cpu()]
            found = torch.unique(holds).numpy()
            self.players[index] = found[found > 0]
            self._anything_fixed[index] = bool((found == 0).any())

    @property
    def active(self) -> np.ndarray:
        """Supervoxels that can change a value; the Shapley value of all others is 0."""
        parts = [players for players in self.players.values() if players.size]
        return np.unique(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int32)

    def of_window(self, index: int, kept: np.ndarray, detail: str = "") -> np.ndarray:
        """Return one window's part of every F_c.

        Parameters
        ----------
        index : int
            A relevant window.
        kept : ndarray of bool, shape (n, players of the window)
            Coalitions.

        Returns
        -------
        ndarray, shape (n, classes)
        """
        keys = [(index, np.packbits(row).tobytes()) for row in kept]
        todo = {key: row for key, row in zip(keys, kept, strict=True) if key not in self.store}
        if len(keys) > len(todo):
            self.progress.advance(len(keys) - len(todo), detail)
        if todo:
            self._compute(index, list(todo), np.array(list(todo.values())), detail)
        return np.array([self.store[key] for key in keys]).reshape(len(keys), len(self.objectives))

    def of_scan(self, kept: np.ndarray, detail: str = "") -> np.ndarray:
        """Return every F_c of coalitions of the whole scan.

        Parameters
        ----------
        kept : ndarray of bool, shape (n, p)
            Whether supervoxels 1 to p stay.

        Returns
        -------
        ndarray, shape (n, classes)
        """
        total = np.zeros((len(kept), len(self.objectives)))
        # Window by window: what repeats within a window is run once, and a window's weights are made once.
        for index in self.relevant:
            total += self.of_window(index, kept[:, self.players[index] - 1], detail)
        return total

    def _compute(self, index: int, keys: list[tuple[int, bytes]], kept: np.ndarray, detail: str) -> None:
        where = self.windows.slices(index)
        scan, players = self._padded[where], self.players[index]
        place = np.zeros(self.n_supervoxels + 1, dtype=np.int64)
        place[players] = np.arange(1, len(players) + 1)
        local = torch.from_numpy(place)[self._labels[where].long()].to(self.device)
        shares = self._shares(index)
        empty = [] if self._anything_fixed[index] else [n for n, row in enumerate(kept) if not row.any()]
        for number in empty:
            self.store.add([(keys[number], self._take(shares, self._air_logits())[0])])
            self.progress.advance(1, detail)
        for numbers in batches([n for n in range(len(kept)) if n not in empty], self.batch_size):
            factor = torch.ones((len(numbers), len(players) + 1), dtype=self.dtype)
            factor[:, 1:] = torch.from_numpy(kept[numbers]).to(self.dtype)
            logits = self._run(scan * factor.to(self.device)[:, local])
            values = self._take(shares, logits)
            self.store.add([(keys[number], value) for number, value in zip(numbers, values, strict=True)])
            self.progress.advance(len(numbers), detail)

    def _air_logits(self) -> torch.Tensor:
        """Every window of air has the same answer."""
        if self._air is None:
            air = torch.zeros((1, *self.windows.window), dtype=self.dtype, device=self.device)
            self._air = self._run(air)
            check_answer(self._air, air[:, None], self._air.shape[1])
        return self._air
