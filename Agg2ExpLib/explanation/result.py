"""An explanation in memory, for a notebook: its table, maps and pictures, no folder."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.importance import ImportanceTable
from Agg2ExpLib.volume import Volume

if TYPE_CHECKING:
    from Agg2ExpLib.case.attribution import Attribution
    from Agg2ExpLib.case.case import Case
    from Agg2ExpLib.methods.games.supervoxels import Supervoxels

_SHOWN_CLASSES, _SHOWN_REGIONS = 6, 6


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """An explanation that was not written.

    Attributes
    ----------
    case : Case
        Scan, model and segmentation.
    document : mapping
        What explanation.json would say.
    importance : ImportanceTable
        RoI importance of every explained class.
    attributions : mapping of str to Attribution
        By class.
    regions : mapping of str to bool ndarray
        Extra regions on the model's grid.
    supervoxels : Supervoxels, optional
        Of methods that remove them.
    """

    case: Case
    document: Mapping[str, Any]
    importance: ImportanceTable
    attributions: Mapping[str, Attribution]
    regions: Mapping[str, np.ndarray]
    supervoxels: Supervoxels | None = None

    def __repr__(self) -> str:
        settings = self.document["settings"]
        return f"Result({self.case.name}, {settings['method']}: {', '.join(self.attributions) or 'nothing to explain'})"

    def attribution(self, name: str) -> Volume:
        """Return the attribution of a class on the model's grid, float32.

        Raises
        ------
        InputError
            The class was not explained.
        """
        if name not in self.attributions:
            raise InputError(f"there is no attribution of {name!r}; explained are {', '.join(self.attributions)}")
        full = self.attributions[name].full(self.case.prepared.shape).astype(np.float32)
        return Volume(full, self.case.prepared.grid)

    def metatensor(self, name: str) -> Any:
        """Return the attribution of a class as a MONAI MetaTensor (1, i, j, k)."""
        import torch
        from monai.data import MetaTensor

        found = self.attribution(name)
        return MetaTensor(torch.from_numpy(found.voxels)[None], affine=torch.from_numpy(found.affine.copy()))

    def to_frame(self) -> Any:
        """Return the importance table as a pandas data frame."""
        return self.importance.to_frame()

    def _repr_html_(self) -> str:
        """Show the strongest regions of each class, and a slice through its strongest voxel."""
        parts = [f"<p><b>{html.escape(repr(self))}</b></p>"]
        names = list(self.attributions)[:_SHOWN_CLASSES]
        parts.append(
            "<table><tr><th>class</th><th>share of its attribution, and times what its size alone would hold</th></tr>"
        )
        parts += [
            f"<tr><td>{html.escape(structure(name).name)}</td><td>{self._strongest(name)}</td></tr>" for name in names
        ]
        parts.append("</table>")
        for name in names:
            shown = html.escape(structure(name).name)
            parts.append(f'<p>{shown}<br/><img alt="{shown}" src="data:image/png;base64,{self._slice(name)}"/></p>')
        return "\n".join(parts)

    def _strongest(self, name: str) -> str:
        row = self.importance.classes.index(name)
        mass, times = (self.importance.matrix(measure)[row] for measure in ("mass", "enrichment"))
        order = np.argsort(-np.nan_to_num(mass))[:_SHOWN_REGIONS]
        rois = self.importance.rois
        return ", ".join(f"{html.escape(structure(rois[i]).name)} {mass[i]:.0%} ({times[i]:.1f}x)" for i in order)

    def _slice(self, name: str) -> str:
        """A PNG of the axial slice through the strongest voxel, as base64."""
        import matplotlib

        values = np.abs(self.attribution(name).voxels)
        k = int(np.unravel_index(int(values.argmax()), values.shape)[2])
        figure = matplotlib.figure.Figure(figsize=(3, 3))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(self.case.prepared.grey[:, :, k].T, cmap="gray", origin="lower", vmin=0, vmax=1)
        top = float(np.quantile(values, 0.999)) or 1.0
        shown = np.ma.masked_less(values[:, :, k].T, 0.1 * top)
        axes.imshow(shown, cmap="inferno", origin="lower", alpha=0.6, vmin=0, vmax=top)
        axes.set_axis_off()
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=80)
        return base64.b64encode(stream.getvalue()).decode()
