"""``python -m Agg2ExpLib.studies.completeness``: which path of integrated gradients is complete with the fewest points.

On a generated scan that needs several windows, every path is walked with several numbers of points. Told is by how much the sum
of the attribution misses F_c(scan) - F_c(nothing), in percent of that, for each class; the default path is chosen by it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from Agg2ExpLib.case import Case
from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.methods.games.masking import LinearValues
from Agg2ExpLib.methods.integrated_gradients import PATHS, path_point
from Agg2ExpLib.methods.mean_gradients import Points, mean_gradients
from Agg2ExpLib.phantom import make_phantom
from Agg2ExpLib.volume import Grid, Volume

# Voxels of 3 mm around the middle of the chest: two windows of the bundled model, one over the other.
_SHAPE = (64, 64, 100)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m Agg2ExpLib.studies.completeness", description=__doc__)
    parser.add_argument("--model", default="thorax-phantom", help="bundled name or model folder")
    parser.add_argument(
        "--classes", default="heart,aorta,trachea,lung_lower_lobe_left,ribs,vertebraes,autochthon_left", metavar="A,B"
    )
    parser.add_argument("--points", default="10,20,50,100", metavar="N,N")
    parser.add_argument(
        "--steps", type=int, default=400, help="at which the way from nothing to the scan is measured (400)"
    )
    parser.add_argument("--seed", type=int, default=4242, help="of the phantom")
    options = parser.parse_args(arguments)
    try:
        case = Case.open(middle_of_the_chest(options.seed), options.model, device="cpu")
        way = along_the_way(case, options.classes.split(","), options.steps)
        print(f"{case}\n\n| path | points | {' | '.join(way.names)} |\n|---{'|---' * (len(way.names) + 1)}|")
        for path in PATHS:
            for points in map(int, options.points.split(",")):
                told = " | ".join(f"{100 * gap:.1f} %" for gap in way.gaps(path, points))
                print(f"| {path} | {points} | {told} |")
        return 0
    except Agg2ExpError as error:
        print(f"agg2exp: {error}", file=sys.stderr)
        return 2


def middle_of_the_chest(seed: int, shape: tuple[int, int, int] = _SHAPE) -> Volume:
    """Return the middle of a phantom's scan, cut to that many voxels of 3 mm."""
    whole = make_phantom(seed, spacing=3.0).image
    start = [max((there - wanted) // 2, 0) for there, wanted in zip(whole.voxels.shape, shape, strict=True)]
    cut = whole.voxels[tuple(slice(first, first + size) for first, size in zip(start, shape, strict=True))]
    affine = whole.grid.affine.copy()
    affine[:3, 3] = whole.grid.index_to_world(start)
    return Volume(np.ascontiguousarray(cut), Grid(cut.shape, affine))


def along_the_way(case: Case, classes: Sequence[str], steps: int) -> Way:
    """Walk from nothing to the scan once.

    Parameters
    ----------
    case : Case
        Of a model of one network.
    classes : sequence of str
        Those that the prediction lacks are left out.
    steps : int
        Of a^(1/4), even: dense near nothing.
    """
    (stitched,) = case.stitched
    aims = [aim for aim in case.objectives(classes) if aim.voxels]
    nothing = stitched.nothing()
    values = LinearValues(stitched, aims)
    found = [values.of_volume(nothing + t**4 * (stitched.x - nothing)) for t in np.linspace(0.0, 1.0, steps + 1)]
    at_nothing = Points(1, lambda _: (nothing, 1.0))
    first = mean_gradients(stitched, aims, at_nothing, case.context(), from_nothing=True)
    names = tuple(case.labels[aim.class_index] for aim in aims)
    return Way(names, np.array(found), np.array([one.channels.sum(dtype=np.float64) for one in first]))


@dataclass(frozen=True, eq=False)
class Way:
    """F_c on the way from nothing to the scan: from it follows what integrated gradients of any points sum to.

    Their sum over the voxels is the mean over the points of sum_v (x - x0)[v] dF_c/dx[v], the derivative of F_c along the way.

    Attributes
    ----------
    names : tuple of str
        Classes.
    values : ndarray, shape (steps + 1, classes)
        F_c at even steps of t = a^(1/4).
    first : ndarray, shape (classes,)
        Derivative by a at a = 0, from the gradient.
    """

    names: tuple[str, ...]
    values: np.ndarray
    first: np.ndarray

    def gaps(self, path: str, points: int) -> np.ndarray:
        """Return the relative completeness gap of each class at so many points of a path."""
        from scipy.interpolate import CubicSpline

        slope = CubicSpline(np.linspace(0.0, 1.0, len(self.values)), self.values).derivative()
        places, weights = np.array([path_point(number, points, path) for number in range(points)]).T
        t = np.where(places > 0, places, 1.0) ** 0.25
        derivative = np.where(places[:, None] > 0, slope(t) / (4.0 * t[:, None] ** 3), self.first)
        sums = (weights[:, None] * derivative).mean(axis=0)
        return np.abs(sums / (self.values[-1] - self.values[0]) - 1.0)


if __name__ == "__main__":
    sys.exit(main())
