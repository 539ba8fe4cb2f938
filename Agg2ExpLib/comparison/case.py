"""One case of a comparison: every method explained and measured on it, each result written as soon as it is there."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.case.attribution import PassCount
from Agg2ExpLib.case.case import Case
from Agg2ExpLib.case.objective import Objective
from Agg2ExpLib.case.stitched import Network, StitchedNetwork
from Agg2ExpLib.comparison.files import read_json, write_json
from Agg2ExpLib.comparison.passes import Share, naive_passes, passes_of_one
from Agg2ExpLib.comparison.plan import MethodSpec, Plan
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods.games.masking import LinearValues
from Agg2ExpLib.methods.games.supervoxel_map import SupervoxelMap, read_map
from Agg2ExpLib.methods.games.supervoxels import OWN_MAP, Supervoxels
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

if TYPE_CHECKING:
    import torch

SHARED = "shared.json"


@dataclass
class ComparedCase:
    """A scan, its prediction, and what the methods share.

    Parameters
    ----------
    name : str
        Of the case.
    case : Case
        Scan and model.
    plan : Plan
        What to do.
    wanted : sequence of int
        Classes.
    folder : Path
        Where its results go.
    map_file : Path, optional
        The user's supervoxels; read at once, so that a map that cannot serve costs no time.
    """

    name: str
    case: Case
    plan: Plan
    wanted: Sequence[int]
    folder: Path
    map_file: Path | None = None

    def __post_init__(self) -> None:
        grid = self.case.prepared.grid
        self.own_map: SupervoxelMap | None = read_map(self.map_file, grid) if self.map_file else None

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names of the model."""
        return self.case.labels

    @property
    def stitched(self) -> StitchedNetwork:
        """The network over the scan."""
        if len(self.case.stitched) > 1:
            raise InputError(
                f"{self.case.model.card.name} has several networks, and methods are compared on one; compare them on a part"
            )
        return self.case.stitched[0]

    @property
    def n_voxels(self) -> int:
        """Voxels of the scan on the model's grid."""
        return self.stitched.x[0].numel()

    def identity_of(self, spec: MethodSpec, identity: str) -> str:
        """What a method's result depends on: the map too where the method uses it."""
        return f"{identity} {self.own_map.sha256}" if self.own_map and spec.supervoxels == OWN_MAP else identity

    def segment(self, progress: Progress) -> None:
        """Predict the scan; everything else needs it."""
        self.case.progress = progress
        self.aims = self.case.objectives(list(self.wanted))
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
        return [self.labels[aim.class_index] for aim in self.aims if not aim.voxels]

    def subsets(self) -> Any:
        """Random voxel subsets: the same for every method and class."""
        return random_subsets(self.n_voxels, self.plan.subset_voxels, self.plan.subsets, self.plan.seed)

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
        make = LinearValues if self.plan.mask == "fixed" else partial(_OwnMaskValues, self.case)
        values = make(self.stitched, self.present, passes=passes, progress=progress)
        progress.stage("perturbed predictions", (self.plan.subsets + 1) * len(values.relevant))
        effects = removal_effects(values, self.stitched.x, self.subsets())
        about = {
            "identity": identity,
            "windows": len(self.stitched.windows),
            "segmentation_passes": self.case.segmentation.forward_passes,
            "passes": passes.forward,
            "classes": [self.labels[aim.class_index] for aim in self.present],
            "absent": self.absent,
            "effects": effects.tolist(),
        }
        write_json(path, about)

    def supervoxels(self, spec: MethodSpec) -> Supervoxels | None:
        """Divide the scan as a method asks."""
        if spec.supervoxels == OWN_MAP and self.own_map:
            return self.own_map.supervoxels
        return self.case.divide(self.plan.method(spec))

    def measure(self, spec: MethodSpec, identity: str, progress: Progress) -> None:
        """Explain by one method, measure, and write the result."""
        supervoxels = self.supervoxels(spec)
        players = len(supervoxels.names) if supervoxels else 0
        weight = passes_of_one(self.plan, spec, players)
        passes = PassCount()

        def explained(stitched: StitchedNetwork, words: str) -> dict[int, np.ndarray]:
            share = Share(progress, weight, f"{self.name}, {spec.readable}{words}")
            found = self._explain(spec, supervoxels, stitched, share, passes)
            share.finish()
            return found

        stitched = self.stitched
        begin = time.perf_counter()
        clean = explained(stitched, "")
        seconds = (time.perf_counter() - begin) / max(len(clean), 1)
        good, notes = self._usable(spec, clean)
        moves: dict[int, list[float]] = {index: [] for index in good}
        norm = float(stitched.x.double().norm())
        for number, copy in enumerate(
            noisy_copies(stitched.x, self.plan.copies, self.plan.noise_bound, self.plan.seed)
        ):
            noisy = explained(stitched.of(copy), f", noisy copy {number + 1}")
            for index in good:
                # An explanation that is 0 everywhere under noise has changed by its whole size.
                there = normalised(noisy[index]) if np.abs(noisy[index]).any() else np.zeros_like(good[index])
                moves[index].append(movement(good[index], there, norm))
        alike: dict[int, float] = {}
        if self.plan.randomised:
            other = replace(stitched, network=_randomised(stitched.network, self.plan.seed))
            random = explained(other, ", random weights")
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
            classes[self.labels[index]] = {name: [one.value, one.low, one.high] for name, one in found.items()}
        result = {
            "identity": self.identity_of(spec, identity),
            "method": spec.name,
            "classes": classes,
            "notes": notes,
            "passes": passes.forward + passes.backward,
            "naive_passes": naive_passes(self.plan, spec, len(stitched.windows), len(self.present), players),
            "seconds": time.perf_counter() - begin,
        }
        write_json(self.folder / spec.file, result)

    def _explain(
        self,
        spec: MethodSpec,
        supervoxels: Supervoxels | None,
        stitched: StitchedNetwork,
        progress: Progress,
        passes: PassCount,
    ) -> dict[int, np.ndarray]:
        """Attributions of the present classes; M_c and the supervoxels stay those of the scan."""
        context = replace(self.case.context(supervoxels=supervoxels), progress=progress, passes=passes)
        found = self.plan.method(spec).attribute(stitched, self.present, context)
        return {one.class_index: one.full(self.case.prepared.shape) for one in found}

    def _usable(self, spec: MethodSpec, clean: dict[int, np.ndarray]) -> tuple[dict[int, np.ndarray], list[str]]:
        """Normalise; a class whose attribution is 0 everywhere is told of and left out."""
        good, notes = {}, []
        for index, values in clean.items():
            try:
                good[index] = normalised(values)
            except InputError as error:
                notes.append(f"{self.labels[index]} by {spec.name}: {error}")
        return good, notes


class _OwnMaskValues(LinearValues):
    """F_c of a volume over what the network predicts as c in that volume: the published rule of faithfulness."""

    def __init__(self, case: Case, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        # Its own stages are steps of this one.
        self._case = replace(case, progress=Progress())
        self._case.__dict__["stitched"] = case.stitched
        self.relevant = list(range(len(self.windows)))

    def of_volume(self, x: torch.Tensor, detail: str | None = None) -> np.ndarray:
        """Return F_c, shape (classes,); 0 for a class that the copy lacks."""
        seen = self._case.with_scan(x)
        aims = seen.objectives([aim.class_index for aim in self.objectives])
        self.passes.forward += seen.segmentation.forward_passes
        self.progress.advance(len(self.windows), detail)
        return np.array([aim.value if aim.voxels else 0.0 for aim in aims])


def _randomised(network: Network, seed: int) -> Network:
    """Return a network with random weights, of a module or of a model that holds one."""
    import torch

    if isinstance(network, torch.nn.Module):
        return randomised_network(network, seed)
    inner = getattr(network, "network", None)
    if not isinstance(inner, torch.nn.Module):
        raise InputError("the check with random weights needs a network of torch modules; use --no-randomisation")
    return replace(network, network=randomised_network(inner, seed))  # type: ignore[type-var]


def is_done(path: Path, identity: str) -> bool:
    """Tell whether a method's result is there, of this very comparison."""
    if not path.is_file():
        return False
    try:
        return bool(read_json(path)["identity"] == identity)
    except (InputError, KeyError, json.JSONDecodeError):
        return False
