"""How much of the scan around a structure the model needs to find it: everything farther away is replaced."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.agreement import dice
from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.case.filling import check_fill
from Agg2ExpLib.device import Compute
from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.models import Model
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.whatif import case_of

#: Margins around the structure that are tried, mm, from none.
MARGINS = (0.0, 2.0, 5.0, 10.0, 20.0, 40.0)
#: Agreement of the prediction with itself that counts as kept.
KEPT = 0.95
# Halvings of the step in which it is found.
_HALVINGS = 2


@dataclass(frozen=True)
class Needs:
    """What a structure needs around it.

    Attributes
    ----------
    structure : str
        The class.
    least : float or None
        Least margin tried at which the prediction is kept, mm; ``None`` when none of them is enough.
    tried : tuple of (float, float)
        Margin in mm, and Dice of the structure's prediction with its first one; in the order tried.
    fill : str
        What everything farther away became.
    """

    structure: str
    least: float | None
    tried: tuple[tuple[float, float], ...]
    fill: str = "air"

    def sentence(self) -> str:
        """Say it in one sentence.

        Examples
        --------
        >>> Needs("thyroid_gland", 14.0, ((14.0, 0.96),)).sentence()
        'The thyroid gland needs 14 mm around it.'
        """
        name = structure(self.structure).name
        if self.least is None:
            return f"The {name} needs more than {MARGINS[-1]:.0f} mm around it."
        if not self.least:
            return f"The {name} needs nothing around it: the model finds it by itself."
        return f"The {name} needs {self.least:g} mm around it."

    def to_dict(self) -> dict[str, Any]:
        """Plain values and the sentence, for JSON."""
        return asdict(self) | {"sentence": self.sentence()}


def needs(
    explanation: Explanation,
    name: str,
    *,
    fill: str = "air",
    model: str | Path | Model | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> Needs:
    """Return the least margin around a structure at which the model still predicts it as it did.

    The margins of :data:`MARGINS` are tried from the smallest, then the step in which the prediction comes back is halved twice:
    at most eight predictions of the whole scan.

    Parameters
    ----------
    explanation : Explanation
        Of the scan; its prediction is compared with.
    name : str
        A class of the model.
    fill : str
        One of :data:`Agg2ExpLib.case.filling.FILLS`: what everything farther away becomes.
    model, device, seed, progress
        As for :func:`Agg2ExpLib.whatif.whatif`.

    Raises
    ------
    InputError
        A class that is not known or not in the prediction, or another model than the one explained.
    """
    check_fill(fill)
    if name not in explanation.labels[1:]:
        raise InputError(
            f"{explanation.folder} has no structure {name!r}: {nearest_names(name, explanation.labels[1:])}"
        )
    first = explanation.model_prediction()
    index = explanation.labels.index(name)
    mask = np.asarray(first.voxels) == index
    if not mask.any():
        raise InputError(f"{name} is not in the prediction, so it cannot be asked what it needs; choose another")
    progress = progress or Progress()
    case = case_of(explanation, model, Compute(device=device), progress)
    distance = _distance(mask, first.spacing)
    tried: list[tuple[float, float]] = []
    windows = case.n_windows

    def keeps(margin: float, after: int) -> bool:
        outside = distance > margin
        agreement = 1.0
        if outside.any():
            progress.plan([("segmentation", windows, windows)] + [("segmentation", 0, windows)] * after)
            agreement = dice(mask, np.asarray(case.what_if(outside, fill, seed).labels) == index)
        progress.message(f"{margin:g} mm around {structure(name).name}: Dice {agreement:.2f}")
        tried.append((margin, agreement))
        return agreement >= KEPT

    least, below = None, 0.0
    for number, margin in enumerate(MARGINS):
        if keeps(margin, len(MARGINS) - 1 - number + _HALVINGS):
            least = margin
            break
        below = margin
    for number in range(_HALVINGS if least else 0):
        middle = round((below + least) / 2)  # type: ignore[operator]
        if not below < middle < least:  # type: ignore[operator]
            break
        if keeps(float(middle), _HALVINGS - 1 - number):
            least = float(middle)
        else:
            below = float(middle)
    return Needs(name, least, tuple(tried), fill)


def _distance(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    from scipy.ndimage import distance_transform_edt

    found: np.ndarray = distance_transform_edt(~mask, sampling=spacing)
    return found


def describe_needs(found: Needs) -> str:
    """Return it as lines for people, by rising margin."""
    lines = [
        f"{'margin, mm':>10}{'Dice':>7}",
        *(f"{margin:>10g}{agreement:>7.3f}" for margin, agreement in sorted(found.tried)),
    ]
    return "\n".join([*lines, "", found.sentence()])
