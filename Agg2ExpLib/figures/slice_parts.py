"""What is drawn into a slice: planes, overlay, outlines, letters, scale bar, and the legends of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from Agg2ExpLib.figures.measures import BACKGROUND
from Agg2ExpLib.figures.style import MARGIN, Theme, add_axes, colour_of, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

    from Agg2ExpLib.volume import Volume

#: Below this share of the scale's top an attribution is not drawn; its opacity grows from there.
LEAST_SHOWN = 0.1
_MOST_OPAQUE = 0.85
_EXPLAINED_WIDTH = 1.8
_MOST_LEGEND = 24
_LETTER_INK = "#ffe66d"
_TICK_INK = "#3fe0ff"
_LIGHT_EDGE = "#f4f4f4"


class _Volumes(Protocol):
    @property
    def prediction(self) -> Volume: ...
    @property
    def regions(self) -> Mapping[str, np.ndarray]: ...
    @property
    def labels(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Plane:
    """One slice of a RAS volume and how it lies on the screen.

    Attributes
    ----------
    title : str
        Name of the plane.
    axis, index : int
        Which slice: axis 0 right, 1 front, 2 up.
    letters : str
        Sides of the picture: left, right, top, bottom.
    centre : tuple of float
        The strongest voxel in the picture's millimetres: across, up.
    width, height : float
        Millimetres.
    """

    title: str
    axis: int
    index: int
    letters: str
    centre: tuple[float, float]
    width: float
    height: float

    @classmethod
    def through(
        cls, point: tuple[int, int, int], spacing: tuple[float, float, float], shape: tuple[int, int, int]
    ) -> tuple[Plane, Plane, Plane]:
        """Return the axial, coronal and sagittal planes through a voxel."""
        size = [count * step for count, step in zip(shape, spacing, strict=True)]
        place = [(index + 0.5) * step for index, step in zip(point, spacing, strict=True)]

        def plane(title: str, axis: int, letters: str) -> Plane:
            across, up = (other for other in range(3) if other != axis)
            # All three pictures run against their first axis: right, or front, is on the left.
            centre = (size[across] - place[across], place[up])
            return cls(title, axis, point[axis], letters, centre, size[across], size[up])

        return plane("axial", 2, "RLAP"), plane("coronal", 1, "RLSI"), plane("sagittal", 0, "APSI")

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Edges of the picture in mm, for a picture whose first row is at the bottom."""
        return 0.0, self.width, 0.0, self.height

    def cut(self, voxels: np.ndarray) -> np.ndarray:
        """Return the slice as a picture, first row at the bottom."""
        return np.take(voxels, self.index, axis=self.axis)[::-1].T


def overlay_map() -> Colormap:
    """Return the map of attributions: transparent at the bottom, opaque at the top."""
    import matplotlib
    from matplotlib.colors import ListedColormap

    steps = np.linspace(0.0, 1.0, 256)
    colours = matplotlib.colormaps["inferno"](0.25 + 0.75 * steps)
    colours[:, 3] = _MOST_OPAQUE * np.clip((steps - LEAST_SHOWN) / 0.5, 0.0, 1.0)
    return ListedColormap(colours, name="agg2exp_attribution")


def draw_overlay(axes: Axes, plane: Plane, strength: np.ndarray, top: float) -> None:
    """Lay |E| over the CT; ``top`` is the value of the strongest colour."""
    axes.imshow(plane.cut(strength), cmap=overlay_map(), vmin=0.0, vmax=top, origin="lower", extent=plane.extent,
                interpolation="nearest", aspect="auto", gid="attribution")  # fmt: skip


def draw_outlines(axes: Axes, plane: Plane, case: _Volumes, name: str) -> dict[str, int]:
    """Draw the outlines of all structures and extra regions in a slice; return how many voxels each has there."""
    labels = plane.cut(case.prediction.voxels)
    masks = {case.labels[label]: labels == label for label in np.unique(labels)}
    masks.pop(BACKGROUND, None)
    # The explained structure last: on top of its neighbours.
    order = sorted(masks, key=lambda other: other == name)
    for other in order:
        outline(axes, plane, masks[other], other, _EXPLAINED_WIDTH if other == name else 0.8)
    extra = {other: plane.cut(mask) for other, mask in case.regions.items()}
    for other, mask in extra.items():
        if mask.any():
            outline(axes, plane, mask, other, 1.2, dashed=True)
    areas = {other: int(mask.sum()) for other, mask in (masks | extra).items()}
    return {other: area for other, area in areas.items() if area}


def outline(axes: Axes, plane: Plane, mask: np.ndarray, name: str, width: float, *, dashed: bool = False) -> None:
    """Draw the outline of a mask in a slice, in the colour of its structure."""
    from matplotlib.patheffects import Normal, Stroke

    rows, columns = mask.shape
    # A frame of nothing closes outlines at the edge of the scan.
    padded = np.pad(mask.astype(np.float32), 1)
    across = (np.arange(columns + 2) - 0.5) * plane.width / columns
    up = (np.arange(rows + 2) - 0.5) * plane.height / rows
    colour = colour_of(name)
    lines = axes.contour(across, up, padded, levels=[0.5], colors=[colour], linewidths=width,
                         linestyles="dashed" if dashed else "solid")  # fmt: skip
    if _is_dark(name) or width == _EXPLAINED_WIDTH:
        # The explained structure stands out by a light edge; dark ones (findings are black) would be lost without it.
        lines.set_path_effects([Stroke(linewidth=width + 1.2, foreground=_LIGHT_EDGE, alpha=0.75), Normal()])
    axes.set_xlim(0, plane.width)
    axes.set_ylim(0, plane.height)


def _is_dark(name: str) -> bool:
    red, green, blue = colour_of(name)
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.3


def draw_sides(axes: Axes, plane: Plane, size: float = 11.0) -> None:
    """Write which side of the patient is where."""
    places = ((0.015, 0.5, "left", "center"), (0.985, 0.5, "right", "center"),
              (0.5, 0.985, "center", "top"), (0.5, 0.015, "center", "bottom"))  # fmt: skip
    for letter, (x, y, side, level) in zip(plane.letters, places, strict=True):
        _text(axes, x, y, letter, ha=side, va=level, size=size, weight="bold")


def draw_letters(axes: Axes, plane: Plane) -> None:
    """Write the sides, and mark the strongest voxel by four ticks that leave it free."""
    from matplotlib.patheffects import Normal, Stroke

    draw_sides(axes, plane)
    x, y = plane.centre
    near, far = 0.02 * plane.width, 0.06 * plane.width
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        axes.plot([x + dx * near, x + dx * far], [y + dy * near, y + dy * far], color=_TICK_INK, linewidth=1.3,
                  path_effects=[Stroke(linewidth=2.6, foreground="#000000"), Normal()])  # fmt: skip
    axes.set_axis_off()


def scale_bar_length(planes: Sequence[Plane]) -> int:
    """Return a round length in mm that suits all planes of a figure."""
    narrowest = min(plane.width for plane in planes)
    return next((mm for mm in (200, 100, 50, 20, 10, 5, 2) if mm <= 0.4 * narrowest), 1)


def draw_scale_bar(axes: Axes, plane: Plane, length: int) -> None:
    """Draw a bar of that many millimetres."""
    right, bottom = 0.97 * plane.width, 0.035 * plane.height
    axes.plot([right - length, right], [bottom, bottom], color=_LETTER_INK, linewidth=2.2, solid_capstyle="butt")
    _text(axes, (right - length / 2) / plane.width, bottom / plane.height + 0.012, f"{length} mm", ha="center",
          va="bottom", size=7.5)  # fmt: skip


def _text(axes: Axes, x: float, y: float, text: str, **look: Any) -> None:
    from matplotlib.patheffects import Normal, Stroke

    written = axes.text(x, y, text, color=_LETTER_INK, transform=axes.transAxes, **look)
    written.set_path_effects([Stroke(linewidth=1.8, foreground="#000000"), Normal()])


def overlay_bar(figure: Figure, place: tuple[float, float], theme: Theme) -> None:
    """Draw the colour bar of the overlay, over black and with its transparency, at a place in inches."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes = add_axes(figure, *place, 3.0, 0.13)
    axes.set_facecolor("#000000")
    bar = figure.colorbar(ScalarMappable(Normalize(0, 100), overlay_map()), cax=axes, orientation="horizontal")
    bar.set_ticks([0, 25, 50, 75, 100])
    bar.ax.tick_params(labelsize=8, length=2.5, width=0.6)
    bar.outline.set_linewidth(0.5)
    bar.set_label("strength of attribution |E|, % of its\n99.9th percentile over non-zero voxels", size=8, labelpad=3)


def structures_legend(figure: Figure, seen: Mapping[str, int], name: str, extra: Sequence[str], theme: Theme) -> None:
    """Name the outlines beside the colour bar: the explained structure and extra regions first, then by area."""
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import Normal, Stroke

    first = [other for other in (name, *extra) if other in seen]
    rest = sorted((other for other in seen if other not in first), key=lambda other: -seen[other])
    shown = [*first, *rest][:_MOST_LEGEND]
    handles = [
        Line2D([], [], color=colour_of(other), linewidth=3.0 if other == name else 1.6,
               linestyle="dashed" if other in extra else "solid",
               label=readable(other) + (" (explained)" if other == name else " (extra region)" if other in extra else ""))
        for other in shown
    ]  # fmt: skip
    for handle, other in zip(handles, shown, strict=True):
        if _is_dark(other):
            width = handle.get_linewidth()
            handle.set_path_effects([Stroke(linewidth=width + 1.4, foreground=_LIGHT_EDGE), Normal()])
    if len(seen) > len(shown):
        handles.append(Line2D([], [], linestyle="", label=f"and {len(seen) - len(shown)} more"))
    across, up = (float(side) for side in figure.get_size_inches())
    figure.legend(handles=handles, loc="upper left", ncols=max(1, min(-(-len(handles) // 7), 4)), fontsize=7.5,
                  handlelength=1.6, columnspacing=1.2, labelspacing=0.3, borderaxespad=0,
                  bbox_to_anchor=((MARGIN + 3.5) / across, (MARGIN + 1.16) / up))  # fmt: skip
