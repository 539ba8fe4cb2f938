"""Voxel attributions: methods, and the objective F_c that all of them explain. Listing them needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """One attribution method.

    Attributes
    ----------
    id, name : str
        For commands, and for people.
    samples : int
        Default number of points; 0 where the method has just one.
    equation : str
        In plain notation, with its number in the paper.
    summary : str
        One sentence.
    """

    id: str
    name: str
    samples: int
    equation: str
    summary: str


METHODS: dict[str, Method] = {
    method.id: method
    for method in (
        Method(
            "gradient",
            "vanilla gradient",
            0,
            "(3) VG_c = dF_c/dx",
            "How much the class's summed logit changes with each voxel.",
        ),
        Method(
            "smoothgrad",
            "SmoothGrad",
            20,
            "(4) mean of VG_c(x + e), e ~ Normal(0, sigma^2)",
            "Gradient averaged over noisy copies of the scan.",
        ),
        Method(
            "integrated-gradients",
            "integrated gradients",
            20,
            "(5) (x - x0) * integral over a from 0 to 1 of VG_c(x0 + a (x - x0))",
            "Gradient averaged on the way from air to the scan, times the difference to air.",
        ),
    )
}

#: Reductions A of equation 2 -> what they do.
REDUCTIONS: dict[str, str] = {
    "sum": "sum of the class's logits over its voxels",
    "mean": "mean of the class's logits over its voxels",
    "probability": "mean of the class's logits, weighted by its probability",
}

#: Where integrated gradients take their points a, 0 to 1 -> what that means.
PATHS: dict[str, str] = {
    "graded": "middles of even steps of a^(1/4), each weighed by its step: dense near air, where networks bend most",
    "uniform": "middles of even steps of a, all weighed alike, as in the paper",
}
