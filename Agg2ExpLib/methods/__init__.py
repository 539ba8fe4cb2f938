"""Voxel attributions: methods, and the objective F_c that all of them explain. Listing them needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from Agg2ExpLib.errors import InputError


@dataclass(frozen=True)
class Method:
    """One attribution method.

    Attributes
    ----------
    id, name : str
        For commands, and for people.
    samples : int
        Default number of points; 0 where the method has just one, or where it depends on the supervoxels.
    equation : str
        In plain notation, with its number in the paper.
    summary : str
        One sentence.
    module : str
        Module of :mod:`Agg2ExpLib.methods` whose ``attribute`` computes it.
    supervoxels : bool
        Whether it removes supervoxels, instead of following gradients.
    """

    id: str
    name: str
    samples: int
    equation: str
    summary: str
    module: str = "gradients"
    supervoxels: bool = False


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
        Method(
            "kernelshap",
            "KernelSHAP",
            0,
            "(6) Shapley values of the game 'keep these supervoxels, set the others to air'",
            "Each supervoxel's fair share of the change from air to the scan.",
            module="kernelshap",
            supervoxels=True,
        ),
        Method(
            "occlusion",
            "occlusion",
            0,
            "F_c(x) - F_c(x without the supervoxel)",
            "What is lost when one supervoxel is set to air and all others stay.",
            module="occlusion",
            supervoxels=True,
        ),
        Method(
            "gradcam",
            "layer Grad-CAM",
            0,
            "max(0, sum_k a_k A_k), a_k = mean of dF_c/dA_k",
            "A layer's feature maps, weighted by how much the class's summed logit follows them.",
            module="gradcam",
        ),
    )
}

#: Kind of supervoxel -> (default samples of KernelSHAP, what they are).
SUPERVOXELS: dict[str, tuple[int, str]] = {
    "semantic": (200, "one per predicted class"),
    "cubes": (1000, "an even grid of cubes"),
    "slic": (1000, "compact supervoxels of like intensity"),
    "organ-aware": (1000, "compact supervoxels cut at the borders of the predicted structures"),
    "regions": (200, "the user's regions, and what lies outside of them"),
}

#: The kind of supervoxels that a label volume of the user's holds; the volume's file stands for it in settings.
OWN_MAP = "map"
_OWN_MAP_SAMPLES = 1000

#: How KernelSHAP estimates -> what it does.
ESTIMATORS: dict[str, str] = {
    "regression": "regression over sampled coalitions, in pairs where they suffice; enumerates small games",
    "shap": "shap's KernelExplainer: paired coalitions, small sizes enumerated",
    "captum": "captum's KernelShap, as the paper: unpaired coalitions",
    "exact": "all coalitions, for games of up to 12 supervoxels",
}
#: Largest game whose coalitions are all played.
MOST_EXACT = 12

#: What one game is played over -> what that means.
SCOPES: dict[str, str] = {
    "window": "one game per window among the supervoxels it holds, summed: the same Shapley values by fewer passes",
    "scan": "one game over the whole scan, as the paper",
}

#: Value function -> (whether it is a weighted sum of logits, what it is).
VALUE_FUNCTIONS: dict[str, tuple[bool, str]] = {
    "logit": (True, "F_c: the class's aggregated logit over the voxels first predicted as it"),
    "true-positive": (True, "F_c over those of its voxels that the truth confirms"),
    "false-positive": (True, "F_c over those of its voxels that the truth denies"),
    "dice": (False, "Dice of the class against the truth, or the first prediction"),
    "soft-dice": (False, "soft Dice of its probability against the truth, or the first prediction"),
    "false-positive-volume": (False, "ml predicted as the class where the truth, or the first prediction, is not it"),
}

#: Where integrated gradients take their points a, 0 to 1 -> what that means.
PATHS: dict[str, str] = {
    "graded": "middles of even steps of a^(1/4), each weighed by its step: dense near air, where networks bend most",
    "uniform": "middles of even steps of a, all weighed alike, as in the paper",
}


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


def default_samples(method: str, supervoxels: str = "semantic") -> int:
    """Return the number of samples that a method takes when none is given; 0 where it has none.

    Examples
    --------
    >>> default_samples("smoothgrad"), default_samples("kernelshap", "cubes")
    (20, 1000)
    """
    if method != "kernelshap":
        return METHODS[method].samples
    return _OWN_MAP_SAMPLES if supervoxels == OWN_MAP else SUPERVOXELS[supervoxels][0]
