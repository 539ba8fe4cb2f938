"""Predictions of masked copies of a scan: every class from one forward pass, and no pass that cannot change a value.

A masked copy keeps some supervoxels and sets the others to what stands for "nothing is there". F_c is a sum over windows,
and a window's part depends only on those supervoxels that hold something of it: so a window is run once for each coalition
*within it*, for all classes together, and each answer is remembered as one number per class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from Agg2ExpLib.case.attribution import PassCount
from Agg2ExpLib.case.objective import Objective, bounding_box, output_gradient
from Agg2ExpLib.case.segmentation import check_answer
from Agg2ExpLib.case.stitched import StitchedNetwork
from Agg2ExpLib.case.windows import Slices
from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.methods.games.supervoxels import Supervoxels
from Agg2ExpLib.methods.games.value_store import ValueStore
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
    stitched : StitchedNetwork
        Network, scan and windows.
    objectives : sequence of Objective
        Those without voxels have the value 0.
    passes, progress
        Counts network passes; one unit of progress a window.
    """

    def __init__(
        self,
        stitched: StitchedNetwork,
        objectives: Sequence[Objective],
        *,
        passes: PassCount | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.stitched, self.windows, self.objectives = stitched, stitched.windows, list(objectives)
        self.passes, self.progress = passes or PassCount(), progress or Progress()
        self._kept_shares: dict[int, list[_Share]] = {}
        self._room = _SHARES_BYTES

    @cached_property
    def relevant(self) -> list[int]:
        """Windows that hold a voxel of any class: the only ones that can change a value."""
        return sorted(set().union(*(objective.windows for objective in self.objectives)))

    def of_volume(self, x: torch.Tensor, detail: str | None = None) -> np.ndarray:
        """Return F_c of a volume (C, i, j, k) for every class, shape (classes,)."""
        padded, total = self.stitched.padded(x), np.zeros(len(self.objectives))
        run = lambda indices: self._run(self.stitched.batch(padded, indices))  # noqa: E731
        for indices, answer in self.stitched.in_batches(self.relevant, run):
            for index, logits in zip(indices, answer, strict=True):
                total += self.take(index, logits[None])[0]
            self.progress.advance(len(indices), detail)
        return total

    def _run(self, batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            logits = self.stitched.run(batch)
        self.passes.forward += len(batch)
        return logits

    def _shares(self, index: int) -> list[_Share]:
        """The classes' weights within a window, each cut to where it is not zero; kept while there is room."""
        if index in self._kept_shares:
            return self._kept_shares[index]
        found = []
        for column, objective in enumerate(self.objectives):
            if index in objective.windows:
                weight = output_gradient(self.stitched, objective, index)
                inside = (weight != 0).cpu().numpy()
                if inside.any():
                    box = bounding_box(inside)
                    found.append(_Share(column, objective.channel, box, weight[box].double()))
        size = sum(8 * share.weight.numel() for share in found)
        if size <= self._room:
            self._room -= size
            self._kept_shares[index] = found
        return found

    def take(self, index: int, logits: torch.Tensor) -> np.ndarray:
        """Return what the logits [B, K, ...] of a window add to F_c of every class, shape (B, classes)."""
        return self._take(self._shares(index), logits)

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
    stitched, objectives, passes, progress
        As :class:`LinearValues`; the scan is that of ``stitched``.
    supervoxels : Supervoxels
        0 stays always; 1 to p are kept or removed.
    store : ValueStore
        Answers already there.
    """

    def __init__(
        self,
        stitched: StitchedNetwork,
        objectives: Sequence[Objective],
        supervoxels: Supervoxels,
        *,
        store: ValueStore | None = None,
        passes: PassCount | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(stitched, objectives, passes=passes, progress=progress)
        self.n_supervoxels, self.store = len(supervoxels.names), store if store is not None else ValueStore()
        self._padded = stitched.padded(stitched.x)
        self._nothing = stitched.removed[:, None, None, None]
        self._labels = self.windows.pad(torch.from_numpy(np.ascontiguousarray(supervoxels.labels, dtype=np.int32)), 0.0)
        self._emptied: torch.Tensor | None = None
        self.players: dict[int, np.ndarray] = {}
        self._anything_fixed: dict[int, bool] = {}
        for index in self.relevant:
            where = self.windows.slices(index)
            # Removing a supervoxel that is nothing already changes nothing.
            there = (self._padded[(slice(None), *where)] != self._nothing).any(dim=0).cpu()
            found = torch.unique(self._labels[where][there]).numpy()
            self.players[index] = found[found > 0]
            self._anything_fixed[index] = bool((found == 0).any())

    @property
    def active(self) -> np.ndarray:
        """Supervoxels that can change a value; the Shapley value of all others is 0."""
        parts = [players for players in self.players.values() if players.size]
        return np.unique(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int32)

    def of_window(self, index: int, kept: np.ndarray, detail: str | None = None) -> np.ndarray:
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

    def of_scan(self, kept: np.ndarray, detail: str | None = None) -> np.ndarray:
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

    def _compute(self, index: int, keys: list[tuple[int, bytes]], kept: np.ndarray, detail: str | None) -> None:
        where = self.windows.slices(index)
        scan, players = self._padded[(slice(None), *where)], self.players[index]
        place = np.zeros(self.n_supervoxels + 1, dtype=np.int64)
        place[players] = np.arange(1, len(players) + 1)
        local = torch.from_numpy(place)[self._labels[where].long()].to(self.stitched.device)
        shares = self._shares(index)
        empty = [] if self._anything_fixed[index] else [n for n, row in enumerate(kept) if not row.any()]
        for number in empty:
            self.store.add([(keys[number], self._take(shares, self._logits_of_nothing())[0])])
            self.progress.advance(1, detail)

        def run(numbers: list[int]) -> np.ndarray:
            stays = torch.ones((len(numbers), len(players) + 1), dtype=torch.bool)
            stays[:, 1:] = torch.from_numpy(kept[numbers])
            # Each voxel is the scan's or nothing: no arithmetic, so what stays is the scan to the last bit.
            stays = stays.to(self.stitched.device)[:, local][:, None]
            return self._take(shares, self._run(torch.where(stays, scan, self._nothing)))

        for numbers, values in self.stitched.in_batches([n for n in range(len(kept)) if n not in empty], run):
            self.store.add([(keys[number], value) for number, value in zip(numbers, values, strict=True)])
            self.progress.advance(len(numbers), detail)

    def _logits_of_nothing(self) -> torch.Tensor:
        """Every window in which nothing is there has the same answer."""
        if self._emptied is None:
            batch = self._nothing.expand(-1, *self.windows.window)[None]
            self._emptied = self._run(batch)
            check_answer(self._emptied, batch, self._emptied.shape[1])
        return self._emptied
