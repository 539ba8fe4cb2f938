"""Supervoxels: a partition of the scan into the players of a game, as a label volume. Numpy and SimpleITK only.

Value 0 belongs to no supervoxel and is never removed; values 1 to p are the supervoxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from Agg2ExpLib.errors import InputError

#: Kind of supervoxels -> (default samples of KernelSHAP, what they are).
SUPERVOXELS: dict[str, tuple[int, str]] = {
    "semantic": (200, "one per predicted class"),
    "cubes": (1000, "an even grid of cubes"),
    "slic": (1000, "compact supervoxels of like intensity"),
    "organ-aware": (1000, "compact supervoxels cut at the borders of the predicted structures"),
    "regions": (200, "the user's regions, and what lies outside of them"),
}
#: The kinds that are an even division into about as many as are asked for.
REGULAR = ("cubes", "slic", "organ-aware")
#: The kind of supervoxels that a label volume of the user's holds; the volume's file stands for it in settings.
OWN_MAP = "map"
OWN_MAP_SAMPLES = 1000
#: Name of the supervoxel that holds all voxels outside of the user's regions.
ELSEWHERE = "elsewhere"
# A piece that a structure's border cuts off a regular supervoxel stands alone from this share of the mean size on.
_SMALLEST_SHARE = 0.1
# SLIC's weight of distance against intensity (0 to 1): high enough for compact supervoxels in noise.
_COMPACTNESS = 0.2
_SLIC_ITERATIONS = 5


def supervoxel_kind(text: str) -> str:
    """Return the kind of supervoxels that a setting means: a name, or :data:`OWN_MAP` for the file of a label volume.

    No name has a dot or a slash, and no file that can be read lacks the dot.

    Raises
    ------
    InputError
        Neither.

    Examples
    --------
    >>> supervoxel_kind("cubes"), supervoxel_kind("parcels.nii.gz")
    ('cubes', 'map')
    """
    if text in SUPERVOXELS:
        return text
    if any(mark in text for mark in "./\\"):
        return OWN_MAP
    raise InputError(f"unknown supervoxels {text!r}: use {', '.join(SUPERVOXELS)}, or the file of a label volume")


@dataclass(frozen=True, eq=False)
class Supervoxels:
    """A partition of a volume.

    Attributes
    ----------
    labels : ndarray of int32, shape (i, j, k)
        0 is never removed; 1 to p are the supervoxels.
    names : tuple of str
        Of supervoxels 1 to p.

    Raises
    ------
    InputError
        Fewer than two supervoxels, or labels and names that do not fit each other.
    """

    labels: np.ndarray
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) < 2:
            raise InputError(
                f"there {'is only 1 supervoxel' if self.names else 'is no supervoxel'}, and Shapley values or occlusion "
                "need at least 2; choose another kind with --supervoxels or a higher --supervoxel-count"
            )
        if self.labels.min() < 0 or self.labels.max() > len(self.names):
            raise InputError(
                f"a supervoxel map with {len(self.names)} names must hold values from 0 to {len(self.names)}"
            )

    @property
    def sizes(self) -> np.ndarray:
        """Voxels of supervoxels 1 to p."""
        counts: np.ndarray = np.bincount(self.labels.ravel(), minlength=len(self.names) + 1)[1:]
        return counts

    def check_grid(self, shape: Sequence[int]) -> None:
        """Refuse a scan of another grid.

        Raises
        ------
        InputError
            The shapes differ.
        """
        if self.labels.shape != tuple(shape):
            raise InputError(
                f"the supervoxel map has shape {self.labels.shape}, but the scan on the model's grid has {tuple(shape)}; "
                "make the supervoxels from this scan"
            )


def make_supervoxels(
    kind: str,
    image: np.ndarray,
    prediction: np.ndarray,
    class_names: Sequence[str],
    *,
    regions: Mapping[str, np.ndarray] | None = None,
    count: int = 512,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> Supervoxels:
    """Divide a scan.

    Parameters
    ----------
    kind : str
        A key of :data:`SUPERVOXELS`.
    image : ndarray of float, shape (i, j, k)
        The scan as it is displayed, 0 to 1.
    prediction : ndarray of int, same shape
        Predicted class at each voxel.
    class_names : sequence of str
        Class 0 first.
    regions : mapping of str to bool ndarray
        The user's regions, for ``"regions"``; where they overlap the later one has the voxel.
    count : int
        About how many, for the regular kinds.
    spacing : sequence of float
        Voxel size in mm, so that regular supervoxels are as long along every axis.

    Raises
    ------
    InputError
        An unknown kind, no regions, a region of another grid, or fewer than two supervoxels.

    Examples
    --------
    >>> image, prediction = np.ones((4, 4, 4)), np.zeros((4, 4, 4), dtype=int)
    >>> prediction[2:] = 1
    >>> make_supervoxels("semantic", image, prediction, ["background", "heart"]).names
    ('background', 'heart')
    >>> make_supervoxels("cubes", image, prediction, [], count=8).sizes.tolist()
    [8, 8, 8, 8, 8, 8, 8, 8]
    """
    if kind not in SUPERVOXELS:
        raise InputError(f"unknown supervoxels {kind!r}: use {', '.join(SUPERVOXELS)}")
    if count < 2:
        raise InputError(f"the number of supervoxels is {count}: it must be at least 2")
    if kind == "semantic":
        return _semantic(prediction, class_names)
    if kind == "cubes":
        return _numbered(_cubes(image.shape, count, spacing), "cube")
    if kind == "slic":
        return _numbered(_slic(image, count, spacing), "supervoxel")
    if kind == "organ-aware":
        return _organ_aware(_slic(image, count, spacing), prediction, class_names)
    return _regions(dict(regions or {}), image.shape)


def _semantic(prediction: np.ndarray, class_names: Sequence[str]) -> Supervoxels:
    present = np.unique(prediction)
    lookup = np.zeros(int(present.max()) + 1, dtype=np.int32)
    lookup[present] = np.arange(1, len(present) + 1)
    return Supervoxels(lookup[prediction], tuple(class_names[index] for index in present))


def _regions(regions: dict[str, np.ndarray], shape: Sequence[int]) -> Supervoxels:
    if not regions:
        raise InputError("supervoxels 'regions' need at least one region; give --roi NAME=FILE")
    labels, names = np.zeros(tuple(shape), dtype=np.int32), []
    for name, inside in regions.items():
        if inside.shape != tuple(shape):
            raise InputError(
                f"region {name} has shape {inside.shape}, but the scan on the model's grid has {tuple(shape)}"
            )
        names.append(name)
        labels[inside] = len(names)
    labels[labels == 0] = len(names) + 1
    return _without_empty(labels, [*names, ELSEWHERE])


def _cubes(shape: Sequence[int], count: int, spacing: Sequence[float]) -> np.ndarray:
    """An even grid of boxes about as long along every axis in mm; each has its own number."""
    cells = _cells(shape, count, spacing)
    index = [np.arange(size) * number // size for size, number in zip(shape, cells, strict=True)]
    i, j, k = np.meshgrid(*index, indexing="ij", sparse=True)
    return np.asarray((i * cells[1] + j) * cells[2] + k + 1, dtype=np.int32)


def _cells(shape: Sequence[int], count: int, spacing: Sequence[float]) -> list[int]:
    """Boxes along each axis, at most ``count`` in all: rounded from cubes, then one axis after the other made coarser."""
    lengths = np.asarray(shape) * np.asarray(spacing, dtype=np.float64)
    side = (lengths.prod() / count) ** (1 / 3)
    cells = np.clip(np.rint(lengths / side), 1, shape).astype(int)
    while cells.prod() > count:
        # The axis whose boxes are shortest gives way.
        cells[int(np.argmin(np.where(cells > 1, lengths / cells, np.inf)))] -= 1
    return [int(number) for number in cells]


def _slic(image: np.ndarray, count: int, spacing: Sequence[float]) -> np.ndarray:
    """Compact supervoxels of like intensity (SLIC: Achanta et al. 2012), by SimpleITK."""
    import SimpleITK as sitk

    cells = _cells(image.shape, count, spacing)
    grid = [max(1, -(-size // number)) for size, number in zip(image.shape, cells, strict=True)]
    # SimpleITK's axes run the other way; in 0 to 255, so that its weight of distance means what its manual says.
    scan = sitk.GetImageFromArray(np.ascontiguousarray(image.transpose(2, 1, 0) * 255.0).astype(np.float32))
    threads = sitk.SLICImageFilter()
    threads.SetNumberOfThreads(1)
    threads.SetSuperGridSize(grid)
    threads.SetSpatialProximityWeight(255.0 * _COMPACTNESS)
    threads.SetMaximumNumberOfIterations(_SLIC_ITERATIONS)
    threads.SetEnforceConnectivity(True)
    threads.SetInitializationPerturbation(False)
    found = sitk.GetArrayFromImage(threads.Execute(scan)).transpose(2, 1, 0)
    return np.unique(found, return_inverse=True)[1].reshape(found.shape).astype(np.int32) + 1


def _organ_aware(regular: np.ndarray, prediction: np.ndarray, class_names: Sequence[str]) -> Supervoxels:
    """Cut regular supervoxels at structure borders; a small piece joins the nearest piece of the same structure."""
    pairs = regular.astype(np.int64) * (int(prediction.max()) + 1) + prediction
    values, pieces = np.unique(pairs, return_inverse=True)
    pieces = pieces.reshape(pairs.shape)
    owner = values % (int(prediction.max()) + 1)
    sizes = np.bincount(pieces.ravel())
    where = np.indices(pieces.shape).reshape(3, -1)
    centres = np.stack([np.bincount(pieces.ravel(), line) / sizes for line in where], axis=1)
    small = sizes < _SMALLEST_SHARE * regular.size / regular.max()
    target = np.arange(len(sizes))
    for index in np.unique(owner):
        mine = np.flatnonzero(owner == index)
        kept = mine[~small[mine]]
        if not kept.size:
            kept = mine[[int(np.argmax(sizes[mine]))]]
        for piece in np.setdiff1d(mine, kept):
            target[piece] = kept[int(np.argmin(((centres[kept] - centres[piece]) ** 2).sum(axis=1)))]
    used, renumbered = np.unique(target, return_inverse=True)
    labels = (renumbered[pieces] + 1).astype(np.int32)
    seen: dict[int, int] = {}
    names = []
    for index in owner[used]:
        seen[int(index)] = seen.get(int(index), 0) + 1
        names.append(f"{class_names[index]} {seen[int(index)]}")
    return Supervoxels(labels, tuple(names))


def _numbered(labels: np.ndarray, word: str) -> Supervoxels:
    return Supervoxels(labels, tuple(f"{word} {number}" for number in range(1, int(labels.max()) + 1)))


def _without_empty(labels: np.ndarray, names: Sequence[str]) -> Supervoxels:
    """Leave out supervoxels without a voxel, such as a region outside of the scan."""
    present = np.unique(labels)
    lookup = np.zeros(len(names) + 1, dtype=np.int32)
    lookup[present] = np.arange(1, len(present) + 1)
    return Supervoxels(lookup[labels], tuple(names[value - 1] for value in present))
