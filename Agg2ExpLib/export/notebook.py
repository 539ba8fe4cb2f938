"""A case to scroll through in a notebook: the scan, and one structure's attribution over it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.figures.slices import CT_WINDOWS, top_of
from Agg2ExpLib.volume import Volume, write_volume

if TYPE_CHECKING:
    from Agg2ExpLib.explanation import Result

# Of the strongest colour: what is weaker is not shown.
_WEAK = 0.15


def view(shown: Explanation | Result, name: str | None = None, *, opacity: float = 0.7) -> Any:
    """Return a widget with the scan and a structure's attribution: warm colours for, blue ones against.

    Parameters
    ----------
    shown : Explanation or Result
        What is shown; both volumes lie on the model's grid.
    name : str, optional
        The explained structure; the first by default.
    opacity : float
        Of the colours, 0 to 1.

    Returns
    -------
    ipyniivue.NiiVue
        Shows itself at the end of a notebook's cell. Its volumes, the scan and the attribution, can be changed like any others.

    Raises
    ------
    InputError
        ipyniivue is not installed, or the structure was not explained.
    """
    try:
        import ipyniivue
    except ImportError:
        raise InputError(
            "a view in a notebook needs ipyniivue, which is not installed: pip install 'agg2exp[notebook]'"
        ) from None
    explained = shown.explained if isinstance(shown, Explanation) else tuple(shown.attributions)
    if not explained:
        raise InputError("no structure was explained, so there is nothing to show; explain one that is in the scan")
    name = explained[0] if name is None else name
    attribution = shown.attribution(name)
    scan = shown.model_image() if isinstance(shown, Explanation) else shown.case.prepared.display
    top = top_of(np.abs(attribution.voxels)) or 1.0
    level, width = CT_WINDOWS["soft tissue"]
    ct = bool(scan.voxels.min() < level - width / 2)
    grey = {"cal_min": level - width / 2, "cal_max": level + width / 2} if ct else {}
    widget = ipyniivue.NiiVue()
    widget.load_volumes([
        {"name": "scan.nii.gz", "data": _nifti(scan), "colormap": "gray", **grey},
        {"name": f"attribution of {structure(name).name}.nii.gz", "data": _nifti(attribution), "opacity": opacity,
         "colormap": "warm", "colormap_negative": "winter", "cal_min": _WEAK * top, "cal_max": top,
         "cal_min_neg": -top, "cal_max_neg": -_WEAK * top},
    ])  # fmt: skip
    return widget


def _nifti(volume: Volume) -> bytes:
    """The volume as the browser reads it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.nii.gz"
        write_volume(volume, path)
        return path.read_bytes()
