"""What to compare: immutable, checked once, and enough to repeat a comparison."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from Agg2ExpLib.device import Compute
from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.methods import METHODS, Method, method_of
from Agg2ExpLib.methods.games.supervoxels import OWN_MAP, SUPERVOXELS
from Agg2ExpLib.quality import COPIES, NOISE_BOUND, SUBSET_VOXELS, SUBSETS
from Agg2ExpLib.request import Request
from Agg2ExpLib.storage import safe_file_name

#: The paper's benchmark.
PAPER_METHODS = ("gradient", "smoothgrad", "integrated-gradients", "kernelshap:semantic", "kernelshap:cubes")
PAPER_CLASSES = (
    "background",
    "aorta",
    "lung_lower_lobe_left",
    "lung_lower_lobe_right",
    "trachea",
    "heart",
    "ribs",
)

#: Over which voxels faithfulness sums the logits of a scan without a subset -> what that measures.
MASKS: dict[str, str] = {
    "fixed": "the mask of the whole scan's prediction, which stays fixed: what attributions are gradients of",
    "own": "each copy's own predicted mask, the published rule: changes of the mask's size count too",
}


def _default_samples(method: str, kind: str) -> int:
    """Return the samples that a method takes when none are given; 0 where it has none."""
    made = METHODS[method]
    named = {one.name for one in made.options()}
    # A map's file is not known yet; its name alone says that it is one.
    options = {"supervoxels": "map.nii.gz" if kind == OWN_MAP else kind} if "supervoxels" in named else {}
    return int(made(**options).resolved().get("samples") or 0)


@dataclass(frozen=True)
class MethodSpec:
    """One method to compare, as ``METHOD[:SUPERVOXELS][=SAMPLES]``.

    Attributes
    ----------
    method, supervoxels : str
        Keys of the tables of methods and of supervoxels.
    samples : int
        Points or coalitions; 0 where the method has none.
    """

    method: str
    supervoxels: str
    samples: int

    @classmethod
    def parse(cls, text: str) -> MethodSpec:
        """Read a method.

        Raises
        ------
        InputError
            An unknown method or kind of supervoxels, or a number of samples that is none.

        Examples
        --------
        >>> MethodSpec.parse("kernelshap:cubes=500")
        MethodSpec(method='kernelshap', supervoxels='cubes', samples=500)
        >>> MethodSpec.parse("smoothgrad").name
        'smoothgrad'
        """
        rest, equals, number = text.strip().partition("=")
        method, colon, kind = rest.partition(":")
        if method not in METHODS:
            raise InputError(f"unknown method {method!r}: {nearest_names(method, METHODS)}")
        if colon and not METHODS[method].removes_supervoxels:
            raise InputError(f"method {method} removes no supervoxels, so {text!r} has no meaning; leave {kind!r} out")
        kind = kind or "semantic"
        allowed = [*(name for name in SUPERVOXELS if name != "regions"), OWN_MAP]
        if kind not in allowed:
            raise InputError(f"unknown supervoxels {kind!r} in {text!r}: use {', '.join(allowed)}")
        default = _default_samples(method, kind)
        if not equals:
            return cls(method, kind, default)
        if not default or not number.isdigit() or int(number) < 1:
            raise InputError(
                f"{text!r} names no number of samples that {method} could take; write METHOD=N, N at least 1"
            )
        return cls(method, kind, int(number))

    @property
    def name(self) -> str:
        """The method as tables name it."""
        parts = f"{self.method}:{self.supervoxels}" if METHODS[self.method].removes_supervoxels else self.method
        return parts if self.samples == _default_samples(self.method, self.supervoxels) else f"{parts}={self.samples}"

    @property
    def readable(self) -> str:
        """The method as figures name it."""
        parts = [METHODS[self.method].name]
        if METHODS[self.method].removes_supervoxels:
            parts.append("own map" if self.supervoxels == OWN_MAP else self.supervoxels)
        if self.samples != _default_samples(self.method, self.supervoxels):
            parts.append(f"{self.samples} samples")
        return ", ".join(parts)

    @property
    def file(self) -> str:
        """Name of its results within a case's folder."""
        return f"{safe_file_name(self.name)}.json"


@dataclass(frozen=True)
class Plan:
    """Settings of a comparison.

    Attributes
    ----------
    methods : tuple of str
        See :class:`MethodSpec`.
    classes : tuple of str, optional
        ``None`` takes the paper's seven where the model has them, else every class.
    subsets, subset_voxels : int
        Random voxel subsets of faithfulness, and their size.
    mask : str
        Which voxels F_c of a copy without a subset is summed over; a key of :data:`MASKS`.
    copies, noise_bound
        Noisy copies of sensitivity, and the bound of their uniform noise (the scan is 0 to 1).
    randomised : bool
        Explain the network with random weights too.
    supervoxel_count : int
        About how many regular supervoxels.
    supervoxel_map : str, optional
        The user's supervoxels, for methods with ``:map``: a label volume, or the name of one beside each scan.
    sigma : float
        SmoothGrad's noise.
    scope, estimator : str
        How KernelSHAP is estimated; see :class:`~Agg2ExpLib.methods.KernelSHAP`.
    seed : int
        Of everything random.
    device, precision, batch_size
        As for an explanation.

    Raises
    ------
    InputError
        A value that is not allowed.
    """

    methods: tuple[str, ...] = PAPER_METHODS
    classes: tuple[str, ...] | None = None
    subsets: int = SUBSETS
    subset_voxels: int = SUBSET_VOXELS
    mask: str = "fixed"
    copies: int = COPIES
    noise_bound: float = NOISE_BOUND
    randomised: bool = True
    supervoxel_count: int = 512
    supervoxel_map: str | None = None
    sigma: float = 0.1
    scope: str = "window"
    estimator: str = "regression"
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if not self.methods:
            raise InputError("no method to compare was given; leave --methods out for the paper's five")
        names = [spec.name for spec in self.specs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise InputError(f"method {twice} is given twice; give each once")
        mapped = [spec.name for spec in self.specs if spec.supervoxels == OWN_MAP]
        if mapped and not self.supervoxel_map:
            raise InputError(f"method {mapped[0]} needs your supervoxel map; give it with --supervoxels FILE")
        if self.supervoxel_map and not mapped:
            raise InputError(
                f"no method removes the supervoxels of {self.supervoxel_map}; "
                "name kernelshap:map or occlusion:map with --methods"
            )
        if self.subsets < 2 or self.subset_voxels < 1:
            raise InputError(
                f"faithfulness over {self.subsets} subsets of {self.subset_voxels} voxels cannot be measured: "
                "give at least 2 subsets of at least 1 voxel"
            )
        if self.mask not in MASKS:
            raise InputError(f"unknown mask {self.mask!r} of faithfulness: use {', '.join(MASKS)}")
        if self.copies < 1 or not 0.0 < self.noise_bound <= 1.0:
            raise InputError(
                f"sensitivity over {self.copies} copies with noise of {self.noise_bound:g} cannot be measured: "
                "give at least 1 copy, and noise above 0 and up to 1"
            )
        # Each checks its own options.
        self.compute  # noqa: B018
        for kind in METHODS.values():
            self._options_of(kind)

    @property
    def specs(self) -> tuple[MethodSpec, ...]:
        """The methods, read."""
        return tuple(MethodSpec.parse(text) for text in self.methods)

    @property
    def compute(self) -> Compute:
        """Where and how exactly."""
        return Compute(self.device, self.precision, self.batch_size)

    def method(self, spec: MethodSpec) -> Method:
        """Return a method with the options of this plan."""
        options = self._options_of(METHODS[spec.method])
        if spec.samples:
            options["samples"] = spec.samples
        if "supervoxels" in {one.name for one in METHODS[spec.method].options()}:
            options["supervoxels"] = str(self.supervoxel_map) if spec.supervoxels == OWN_MAP else spec.supervoxels
        return method_of(spec.method, **options)

    def _options_of(self, kind: type[Method]) -> dict[str, Any]:
        """Return those options of the plan that a method has, checked."""
        shared = ("scope", "estimator", "seed", "sigma", "supervoxel_count")
        return {one.name: one.check(getattr(self, one.name), kind.name) for one in kind.options() if one.name in shared}

    @property
    def mask_sentence(self) -> str:
        """Over which voxels faithfulness is measured, in words."""
        return f"Faithfulness sums each class's logit over {MASKS[self.mask]}."

    def map_of(self, name: str, scan: Path | None) -> Path | None:
        """Return the supervoxel map of a case; ``None`` when there is none to use.

        Parameters
        ----------
        name : str
            Of the case.
        scan : path, optional
            Its CT, which a map that is a bare name lies beside.

        Raises
        ------
        InputError
            It is not there.
        """
        if self.supervoxel_map is None:
            return None
        given = Path(self.supervoxel_map)
        beside = [scan.parent / given.name] if scan and given.name == self.supervoxel_map else []
        for place in (*beside, given):
            if place.is_file():
                return place
        raise InputError(
            f"{' and '.join(map(str, (*beside, given)))}: there is no such file for case {name}; "
            "give a label volume with --supervoxels, or the name of one beside each scan"
        )

    def class_indices(self, labels: tuple[str, ...]) -> list[int]:
        """Return the indices of the classes to explain.

        Raises
        ------
        InputError
            A class that the model does not have.
        """
        wanted = self.classes
        if wanted is None:
            wanted = PAPER_CLASSES if set(PAPER_CLASSES) <= set(labels) else labels
        return Request(classes=tuple(wanted)).class_indices(labels)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "methods": list(self.methods), "classes": list(self.classes) if self.classes else None}


def find_scans(places: list[str | Path]) -> dict[str, Path]:
    """Return name -> scan: files, DICOM folders, case folders with ``ct.nii.gz``, and folders of such case folders.

    Raises
    ------
    InputError
        A place that is not there, a scan given twice, or nothing found.
    """
    found: dict[str, Path] = {}
    for given in map(Path, places):
        if not given.exists():
            raise InputError(f"{given}: there is no such file or folder; give CT files or folders of cases")
        # In full, so that "." and ".." have a name; links keep theirs.
        place = Path(os.path.abspath(given))
        inside = sorted(place.glob("*/ct.nii.gz")) if place.is_dir() else []
        if place.is_dir() and (place / "ct.nii.gz").is_file():
            inside = [place / "ct.nii.gz"]
        for scan in inside or [place]:
            if scan in found.values():
                raise InputError(f"{scan} is given twice; give each case once")
            name = scan.parent.name if scan.name == "ct.nii.gz" else scan.name.split(".")[0] or scan.name
            base, number = name, 2
            while name in found:
                name, number = f"{base}_{number}", number + 1
            found[name] = scan
    if not found:
        raise InputError("no scan to compare methods on was given; give CT files or folders of cases")
    return found
