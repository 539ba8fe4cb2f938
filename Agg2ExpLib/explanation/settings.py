"""What to compute: immutable, checked once, and enough to repeat an explanation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.case import REDUCTIONS
from Agg2ExpLib.device import PRECISIONS
from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.methods import (
    ESTIMATORS,
    METHODS,
    OWN_MAP,
    PATHS,
    SCOPES,
    VALUE_FUNCTIONS,
    default_samples,
    supervoxel_kind,
)


@dataclass(frozen=True)
class Settings:
    """Settings of one explanation.

    Attributes
    ----------
    method : str
        A key of :data:`Agg2ExpLib.methods.METHODS`.
    classes : tuple of str, optional
        Names of the classes to explain; ``None`` means every structure (all classes but background),
        ``("all",)`` background too.
    samples : int, optional
        Noisy copies (SmoothGrad), path points (integrated gradients) or coalitions (KernelSHAP); ``None`` takes the
        method's default: 20, 20, and 200 or 1000 by kind of supervoxels.
    sigma : float
        SmoothGrad's noise as a share of the image's range.
    path : str
        Points of integrated gradients: ``graded`` (default) or ``uniform``, the paper's.
    reduction : str
        The A of equation 2: ``sum``, ``mean`` or ``probability``.
    seed : int
        Seed of the noise or the coalitions.
    precision : str
        ``float32`` (default), ``float64``, ``bfloat16`` or ``float16`` (GPU only).
    device : str
        ``auto``, ``cpu`` or ``cuda:N``.
    batch_size : int
        Windows per network pass.
    memory_budget : int
        Bytes that the attributions held at one time may take; more classes are processed in groups.
    supervoxels : str
        What KernelSHAP and occlusion remove: a key of :data:`Agg2ExpLib.methods.SUPERVOXELS`, or the file of a label
        volume whose values from 1 on are the supervoxels; 0 is never removed.
    supervoxel_count : int
        About how many regular supervoxels.
    estimator, scope : str
        How KernelSHAP estimates, and over what each game is played: keys of
        :data:`~Agg2ExpLib.methods.ESTIMATORS` and :data:`~Agg2ExpLib.methods.SCOPES`.
    ridge : float
        Penalty of KernelSHAP's regression.
    value : str
        What KernelSHAP's game is about: a key of :data:`Agg2ExpLib.methods.VALUE_FUNCTIONS`. Those that read the
        whole prediction are always played over the scan.
    layer : str, optional
        Layer that Grad-CAM looks at; ``None`` chooses one.

    Raises
    ------
    InputError
        A value that is not allowed, with the allowed ones.
    """

    method: str = "smoothgrad"
    classes: tuple[str, ...] | None = None
    samples: int | None = None
    sigma: float = 0.1
    path: str = "graded"
    reduction: str = "sum"
    seed: int = 0
    precision: str = "float32"
    device: str = "auto"
    batch_size: int = 1
    memory_budget: int = 2 * 1024**3
    supervoxels: str = "semantic"
    supervoxel_count: int = 512
    estimator: str = "regression"
    scope: str = "window"
    ridge: float = 0.0
    value: str = "logit"
    layer: str | None = None

    def __post_init__(self) -> None:
        for what, value, allowed in (
            ("method", self.method, tuple(METHODS)),
            ("path", self.path, tuple(PATHS)),
            ("reduction", self.reduction, tuple(REDUCTIONS)),
            ("precision", self.precision, PRECISIONS),
            ("estimator", self.estimator, tuple(ESTIMATORS)),
            ("scope", self.scope, tuple(SCOPES)),
            ("value function", self.value, tuple(VALUE_FUNCTIONS)),
        ):
            if value not in allowed:
                raise InputError(f"unknown {what} {value!r}: use {', '.join(allowed)}")
        if self.samples is not None and not 1 <= self.samples <= 100_000:
            raise InputError(f"samples is {self.samples}: it must be 1 to 100000")
        if not 0.0 <= self.sigma <= 10.0:
            raise InputError(f"sigma is {self.sigma:g}: it must be 0 to 10 (a share of the image's range)")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed is {self.seed}: it must be a whole number from 0 to 2^63 - 1")
        if self.batch_size < 1:
            raise InputError(f"batch size is {self.batch_size}: it must be at least 1")
        if self.memory_budget < 1:
            raise InputError(f"memory budget is {self.memory_budget} bytes: it must be positive")
        if not 2 <= self.supervoxel_count <= 100_000:
            raise InputError(f"supervoxel count is {self.supervoxel_count}: it must be 2 to 100000")
        if self.supervoxel_kind == OWN_MAP and not METHODS[self.method].supervoxels:
            raise InputError(
                f"{self.supervoxels} is a supervoxel map, and {self.method} removes no supervoxels; "
                "use --method kernelshap or occlusion"
            )
        if self.value != "logit" and self.method != "kernelshap":
            raise InputError(f"value function {self.value} is of method kernelshap; {self.method} explains the logit")
        if not 0.0 <= self.ridge < float("inf"):
            raise InputError(f"the ridge penalty is {self.ridge:g}: it must be at least 0")

    @property
    def supervoxel_kind(self) -> str:
        """The kind of supervoxels; ``"map"`` when they are the user's own."""
        return supervoxel_kind(self.supervoxels)

    @property
    def samples_taken(self) -> int:
        """The number of samples, the method's default filled in; 0 where it has none."""
        default = default_samples(self.method, self.supervoxel_kind)
        return self.samples if default and self.samples is not None else default

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for explanation.json."""
        values = asdict(self)
        values["classes"] = list(self.classes) if self.classes is not None else None
        return values

    def class_indices(self, labels: tuple[str, ...]) -> list[int]:
        """Return the indices of the classes to explain, in the model's order.

        Readable names ("lung lower lobe left") serve as well as identifiers.

        Raises
        ------
        InputError
            A name that the model does not have, with the nearest ones.
        """
        if self.classes is None:
            return list(range(1, len(labels)))
        if self.classes == ("all",) and "all" not in labels:
            return list(range(len(labels)))
        known = {label: index for index, label in enumerate(labels)}
        readable = {structure(label).name: index for index, label in enumerate(labels)}
        chosen = set()
        for name in self.classes:
            index = known.get(name, readable.get(name.strip().lower()))
            if index is None:
                raise InputError(f"the model has no class {name!r}: {nearest_names(name, labels)}")
            chosen.add(index)
        if not chosen:
            raise InputError("no class to explain was given; leave --classes out to explain every structure")
        return sorted(chosen)
