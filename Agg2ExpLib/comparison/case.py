"""One case of a comparison: every method explained and measured on it, each result written as soon as it is there."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from Agg2ExpLib.case.objective import Objective, objectives
from Agg2ExpLib.case.segmentation import Network, Segmentation, segment
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.comparison.files import read_json, write_json
from Agg2ExpLib.comparison.passes import Share, naive_passes, passes_of_one
from Agg2ExpLib.comparison.plan import MethodSpec, Plan
from Agg2ExpLib.device import dtype_of
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods import METHODS, OWN_MAP
from Agg2ExpLib.methods.dispatch import attribute
from Agg2ExpLib.methods.games.masking import LinearValues
from Agg2ExpLib.methods.games.supervoxel_map import SupervoxelMap, read_map
from Agg2ExpLib.methods.games.supervoxels import Supervoxels, make_supervoxels
from Agg2ExpLib.methods.gradients import PassCount
from Agg2ExpLib.models import SegmentationModel
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.quality import (
    Measured,
    complexity,
    faithfulness,
    movement,
    noisy_copies,
    normalised,
    random_subsets,
    randomised_network,
    removal_effects,
    sensitivity,
    similarity,
    subset_sums,
)
from Agg2ExpLib.volume import Volume, preprocess

SHARED = "shared.json"


@dataclass
class Case:
    """A scan, its prediction, and what the methods share.

    Parameters
    ----------
    name : str
        Of the case.
    volume : Volume
        The CT.
    model : SegmentationModel
        On its device.
    plan : Plan
        What to do.
    wanted : sequence of int
        Classes.
    device : torch.device
        Where.
    folder : Path
        Where its results go.
    map_file : Path, optional
        The user's supervoxels; read at once, so that a map that cannot serve costs no time.
    """

    name: str
    volume: Volume
    model: SegmentationModel
    plan: Plan
    wanted: Sequence[int]
    device: torch.device
    folder: Path
    map_file: Path | None = None

    def __post_init__(self) -> None:
        card = self.model.card
        self.prepared = preprocess(
            self.volume, spacing=card.spacing, orientation=card.orientation, intensity_range=card.intensity_range
        )
        dtype = dtype_of(self.plan.precision, self.device)
        self.x = torch.from_numpy(self.prepared.voxels).to(dtype)
        self.windows = Windows(self.prepared.shape, card.window, card.overlap, card.blending)
        self.own_map: SupervoxelMap | None = read_map(self.map_file, self.prepared.grid) if self.map_file else None

    def identity_of(self, spec: MethodSpec, identity: str) -> str:
        """What a method's result depends on: the map too where the method uses it."""
        return f"{identity} {self.own_map.sha256}" if self.own_map and spec.supervoxels == OWN_MAP else identity

    def segment(self, progress: Progress) -> None:
        """Predict the scan; everything else needs it."""
        self.found: Segmentation = segment(
            self.model,
            self.x,
            self.windows,
            len(self.model.card.labels),
            batch_size=self.plan.batch_size,
            device=self.device,
            precision=self.plan.precision,
            progress=progress,
        )
        self.aims = objectives(self.found, self.windows, self.wanted)
        if not any(aim.voxels for aim in self.aims):
            raise InputError(
                f"none of the classes to compare is in the prediction of {self.name}; choose others with --classes"
            )

    @property
    def present(self) -> list[Objective]:
        """Classes that the prediction has."""
        return [aim for aim in self.aims if aim.voxels]

    @property
    def absent(self) -> list[str]:
        """Names of those that it has not."""
        return [self.model.card.labels[aim.class_index] for aim in self.aims if not aim.voxels]

    def subsets(self) -> Any:
        """Random voxel subsets: the same for every method and class."""
        return random_subsets(self.x.numel(), self.plan.subset_voxels, self.plan.subsets, self.plan.seed)

    @cached_property
    def effects(self) -> np.ndarray:
        """What removing each subset takes from each present class; made by :meth:`share`."""
        found: np.ndarray = np.array(read_json(self.folder / SHARED)["effects"])
        return found

    def share(self, identity: str, progress: Progress) -> None:
        """Make the perturbed predictions that all methods and classes share, unless they are there."""
        path = self.folder / SHARED
        if is_done(path, identity):
            return
        passes = PassCount()
        values = LinearValues(
            self.model,
            self.windows,
            self.present,
            device=self.device,
            precision=self.plan.precision,
            batch_size=self.plan.batch_size,
            passes=passes,
            progress=progress,
        )
        progress.stage("perturbed predictions", (self.plan.subsets + 1) * len(values.relevant))
        effects = removal_effects(values, self.x, self.subsets())
        about = {
            "identity": identity,
            "windows": len(self.windows),
            "segmentation_passes": self.found.forward_passes,
            "passes": passes.forward,
            "classes": [self.model.card.labels[aim.class_index] for aim in self.present],
            "absent": self.absent,
            "effects": effects.tolist(),
        }
        write_json(path, about)

    def supervoxels(self, spec: MethodSpec) -> Supervoxels | None:
        """Divide the scan as a method asks."""
        if not METHODS[spec.method].supervoxels:
            return None
        if spec.supervoxels == OWN_MAP and self.own_map:
            return self.own_map.supervoxels
        return make_supervoxels(
            spec.supervoxels,
            self.prepared.voxels,
            self.found.labels,
            self.model.card.labels,
            count=self.plan.supervoxel_count,
            spacing=self.prepared.spacing,
        )

    def measure(self, spec: MethodSpec, identity: str, progress: Progress) -> None:
        """Explain by one method, measure, and write the result."""
        supervoxels = self.supervoxels(spec)
        players = len(supervoxels.names) if supervoxels else 0
        weight = passes_of_one(self.plan, spec, players)
        passes = PassCount()

        def explained(network: Network, x: torch.Tensor, words: str) -> dict[int, np.ndarray]:
            share = Share(progress, weight, f"{self.name}, {spec.readable}{words}")
            found = self._explain(spec, supervoxels, network, x, share, passes)
            share.finish()
            return found

        begin = time.perf_counter()
        clean = explained(self.model, self.x, "")
        seconds = (time.perf_counter() - begin) / max(len(clean), 1)
        good, notes = self._usable(spec, clean)
        moves: dict[int, list[float]] = {index: [] for index in good}
        norm = float(self.x.double().norm())
        for number, copy in enumerate(noisy_copies(self.x, self.plan.copies, self.plan.noise_bound, self.plan.seed)):
            noisy = explained(self.model, copy, f", noisy copy {number + 1}")
            for index in good:
                # An explanation that vanishes under noise has moved by all that it was.
                there = normalised(noisy[index]) if np.abs(noisy[index]).any() else np.zeros_like(good[index])
                moves[index].append(movement(good[index], there, norm))
        alike: dict[int, float] = {}
        if self.plan.randomised:
            other = replace(self.model, network=randomised_network(self.model.network, self.plan.seed))
            random = explained(other, self.x, ", random weights")
            alike = {index: similarity(values, random[index]) for index, values in good.items()}
        sums = subset_sums(list(good.values()), self.subsets()) if good else np.zeros((0, 0))
        column = {aim.class_index: number for number, aim in enumerate(self.present)}
        classes: dict[str, Any] = {}
        for number, (index, values) in enumerate(good.items()):
            effects = self.effects[:, column[index]]
            found = {
                "faithfulness": faithfulness(sums[:, number], effects, self.plan.seed),
                "sensitivity": sensitivity(moves[index], self.plan.seed),
                "complexity": complexity(values),
                "efficiency": Measured(seconds),
            }
            if alike:
                found["randomisation"] = Measured(alike[index])
            classes[self.model.card.labels[index]] = {
                name: [one.value, one.low, one.high] for name, one in found.items()
            }
        result = {
            "identity": self.identity_of(spec, identity),
            "method": spec.name,
            "classes": classes,
            "notes": notes,
            "passes": passes.forward + passes.backward,
            "naive_passes": naive_passes(self.plan, spec, len(self.windows), len(self.present), players),
            "seconds": time.perf_counter() - begin,
        }
        write_json(self.folder / spec.file, result)

    def _explain(
        self,
        spec: MethodSpec,
        supervoxels: Supervoxels | None,
        network: Network,
        x: torch.Tensor,
        progress: Progress,
        passes: PassCount,
    ) -> dict[int, np.ndarray]:
        """Attributions of the present classes; M_c and the supervoxels stay those of the scan."""
        found = attribute(
            network,
            x,
            self.windows,
            self.present,
            method=spec.method,
            kind=spec.supervoxels,
            supervoxels=supervoxels,
            samples=spec.samples or None,
            sigma=self.plan.sigma,
            seed=self.plan.seed,
            scope=self.plan.scope,
            estimator=self.plan.estimator,
            batch_size=self.plan.batch_size,
            device=self.device,
            precision=self.plan.precision,
            names=self.model.card.labels,
            progress=progress,
            passes=passes,
        )
        return {one.class_index: one.full(self.x.shape) for one in found}

    def _usable(self, spec: MethodSpec, clean: dict[int, np.ndarray]) -> tuple[dict[int, np.ndarray], list[str]]:
        """Normalise; a class whose attribution is 0 everywhere is told of and left out."""
        good, notes = {}, []
        for index, values in clean.items():
            try:
                good[index] = normalised(values)
            except InputError as error:
                notes.append(f"{self.model.card.labels[index]} by {spec.name}: {error}")
        return good, notes


def is_done(path: Path, identity: str) -> bool:
    """Tell whether a method's result is there, of this very comparison."""
    if not path.is_file():
        return False
    try:
        return bool(read_json(path)["identity"] == identity)
    except (InputError, KeyError, json.JSONDecodeError):
        return False
