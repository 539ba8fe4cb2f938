"""Which lesion? Explanations of a class's instances: its connected components, what each was found by, and which is unlike others.

The objective of an instance is the class's own, restricted to the instance's voxels: the same network and the same stitched
windows, of which those that the instance does not touch are left out. The instances' gradients sum to the class's exactly.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.case.attribution import Attribution
from Agg2ExpLib.case.case import Case
from Agg2ExpLib.case.cost import BACKWARD, passes_of
from Agg2ExpLib.case.instances import ADDITIVE, MIN_VOLUME_ML, MOST, RIM_MM, Instances
from Agg2ExpLib.cohort.judge.instances import EXPECTED, FEWEST, Oddness, oddness
from Agg2ExpLib.cohort.judge.size import shell_share
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation.document import image_entry, image_sha256
from Agg2ExpLib.importance import Rois
from Agg2ExpLib.request import Request, identity_of, model_entry
from Agg2ExpLib.storage import write_file, write_folder, write_table
from Agg2ExpLib.volume import Volume, write_volume

_ZONES = ("outside", "rim", "inside")


@dataclass(frozen=True)
class Instance:
    """One connected component of a class, and where its importance lies.

    Attributes
    ----------
    structure : str
        The class.
    number : int
        Its number in the label map, from 1 through all classes; of a class the largest first.
    volume_ml : float
        ml.
    x, y, z : float
        Its voxel nearest to its middle, LPS mm as in DICOM.
    inside, rim, outside : float
        Shares of its importance, the sum of |E|: in itself, in the rim around it, and elsewhere. NaN where it has none.
    enrichment : float
        Share inside over its share of the scan's volume: 1 is what its size alone would give.
    shell : float
        Share in the shell of as many voxels nearest to it: what a region of its size at its place would hold.
    windows : int
        Windows that it touches.
    oddness, expected : float
        Largest robust z of its shares among the instances of its class, size taken off; and how many of as many alike ones lie as
        far out by chance. NaN of too few instances.
    odd : bool
        Whether it is marked as unlike the others.
    why : str
        How it differs most.
    """

    structure: str
    number: int
    volume_ml: float
    x: float
    y: float
    z: float
    inside: float
    rim: float
    outside: float
    enrichment: float
    shell: float
    windows: int
    oddness: float = math.nan
    expected: float = math.nan
    odd: bool = False
    why: str = ""


@dataclass(frozen=True, eq=False)
class InstanceTable:
    """The instances of classes in one scan.

    Attributes
    ----------
    rows : tuple of Instance
        Class by class.
    sentences : tuple of str
        Of each class: how many there are, how many were left out, and which are unlike the others.
    labels : Volume
        Number of the instance at each voxel, on the model's grid; 0 elsewhere.
    rim_mm, min_volume_ml : float
        Thickness of the rim, and the volume below which components were left out.
    """

    rows: tuple[Instance, ...]
    sentences: tuple[str, ...]
    labels: Volume
    rim_mm: float = RIM_MM
    min_volume_ml: float = MIN_VOLUME_ML

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, which has no NaN."""
        rows = [
            {key: None if value != value else value for key, value in asdict(row).items()}  # noqa: PLR0124
            for row in self.rows
        ]
        return {
            "rim_mm": self.rim_mm,
            "min_volume_ml": self.min_volume_ml,
            "sentences": list(self.sentences),
            "instances": rows,
        }

    def write(self, out: str | Path, about: Mapping[str, Any] | None = None) -> None:
        """Write ``instances.csv``, ``instances.json`` and ``instances.nii.gz`` into a new folder.

        Parameters
        ----------
        out : path
            It appears only when complete.
        about : mapping, optional
            Scan, model and request, for ``instances.json``.

        Raises
        ------
        OutputError
            ``out`` exists or cannot be written.
        """
        document = {"format": "agg2exp-instances", "format_version": 1, **(about or {}), **self.to_dict()}
        with write_folder(Path(out)) as part:
            columns = [one.name for one in fields(Instance)]
            write_table(part / "instances.csv", columns, [list(asdict(row).values()) for row in self.rows])
            write_volume(self.labels, part / "instances.nii.gz")
            write_file(part / "instances.json", json.dumps(document, indent=1))


def explain_instances(
    case: Case, request: Request, *, rim_mm: float = RIM_MM, min_volume_ml: float = MIN_VOLUME_ML, most: int = MOST
) -> InstanceTable:
    """Explain every instance of the classes asked for.

    Parameters
    ----------
    case : Case
        Scan and model.
    request : Request
        Method, classes and reduction.
    rim_mm : float
        Thickness of the rim, between centres of voxels.
    min_volume_ml, most
        See :meth:`Agg2ExpLib.case.Case.instances`; ``most`` is of each class.

    Raises
    ------
    InputError
        A class that is not there, a number out of its range, or a method whose instances do not sum to the class.
    """
    _check(case, request, rim_mm, min_volume_ml)
    wanted = request.class_indices(case.labels)
    case.check_method(request.method, wanted)
    # Before the segmentation: from one instance in one window to as many as asked for in all windows.
    ends = passes_of(request.method, case.n_windows, most * len(wanted), len(case.labels))
    least, upmost = ends[0][0] + BACKWARD * request.method.passes()[1], ends[1][0] + BACKWARD * ends[1][1]
    steps = [("segmentation", float(len(one.windows)), float(len(one.windows))) for one in case.stitched]
    case.progress.plan([*steps, ("attributions", least, upmost)])
    found = {index: case.instances(index, min_volume_ml, most, request.reduction) for index in wanted}
    aims = [aim for one in found.values() for aim in one.objectives]
    points, touched = request.method.passes()[0], sum(len(aim.windows) for aim in aims)
    case.progress.message(f"{_counted(len(aims))} in {touched} windows: {touched * points} passes backward")
    rows: dict[int, list[Instance]] = {index: [] for index in wanted}
    for one in case.attribute(request.method, objectives=aims):
        # Parts of a model come one after the other; within a class the order stays.
        of_class = rows[one.class_index]
        of_class.append(_measured(case, found[one.class_index], len(of_class) + 1, one, rim_mm))
    labels = np.zeros(case.prepared.shape, dtype=np.uint16 if len(aims) < 2**16 else np.uint32)
    judged: list[Instance] = []
    sentences = []
    for index, of_class in rows.items():
        compared = oddness(
            np.array([(row.inside, row.rim, row.outside) for row in of_class]).reshape(-1, 3),
            np.array([row.volume_ml for row in of_class]),
        )
        there = found[index].labels > 0
        labels[there] = found[index].labels[there] + len(judged)
        told = _judged(of_class, compared, len(judged))
        sentences.append(_sentence(found[index], told, compared, min_volume_ml))
        judged += told
    return InstanceTable(tuple(judged), tuple(sentences), Volume(labels, case.prepared.grid), rim_mm, min_volume_ml)


def about_of(case: Case, request: Request) -> dict[str, Any]:
    """Return scan, model and request as an explanation.json has them, and the identity that tells tables apart."""
    told = {"model": model_entry(case.model), "settings": request.to_dict()}
    images = [image_entry(volume, image_sha256(volume.source or volume, volume)) for volume in case.images]
    return {
        "image": images[0],
        **({"other_channels": images[1:]} if images[1:] else {}),
        **told,
        "identity": identity_of(told),
    }


def _check(case: Case, request: Request, rim_mm: float, min_volume_ml: float) -> None:
    if request.method.id not in ADDITIVE:
        raise InputError(
            f"instances of {request.method.name} would not sum to their class; use --method {', '.join(ADDITIVE[:-1])} or "
            f"{ADDITIVE[-1]}"
        )
    finest = min(case.prepared.grid.spacing)
    if not finest <= rim_mm < math.inf:
        raise InputError(f"a rim of {rim_mm:g} mm has no voxel of {finest:g} mm in it; give --rim {finest:g} or more")
    if not 0 <= min_volume_ml < math.inf:
        raise InputError(f"the least volume is {min_volume_ml:g} ml; give --min-volume 0 or more")


def _measured(case: Case, found: Instances, number: int, one: Attribution, rim_mm: float) -> Instance:
    from scipy.ndimage import distance_transform_edt

    grid, aim = case.prepared.grid, found.objectives[number - 1]
    mask = found.labels == number
    margins = [math.ceil(rim_mm / step) for step in grid.spacing]
    near = tuple(slice(max(b.start - m, 0), b.stop + m) for b, m in zip(aim.box, margins, strict=True))
    zones = np.zeros(mask.shape, dtype=np.uint8)
    # Rounding must not leave out a voxel that lies just as far.
    zones[near][distance_transform_edt(~mask[near], sampling=grid.spacing) <= rim_mm * (1 + 1e-9)] = 1
    zones[mask] = 2
    row = Rois(zones, _ZONES).row(one.channels, one.box)
    strength = np.zeros(mask.shape, dtype=one.channels.dtype)
    strength[one.box] = np.abs(one.channels).sum(axis=0)
    places = grid.index_to_world(np.argwhere(mask))
    right, front, up = places[np.linalg.norm(places - places.mean(axis=0), axis=1).argmin()]
    outside, rim, inside = map(float, row["mass"])
    return Instance(
        found.name,
        number,
        aim.voxels * grid.voxel_volume / 1000.0,
        -float(right),
        -float(front),
        float(up),
        inside,
        rim,
        outside,
        float(row["enrichment"][2]),
        shell_share(strength, mask, grid.spacing),
        len(aim.windows),
    )


def _judged(rows: Sequence[Instance], compared: Oddness, before: int) -> list[Instance]:
    """Number instances through all classes, and say how odd they are."""
    return [
        replace(
            row,
            number=row.number + before,
            oddness=float(compared.z[index]),
            expected=float(compared.expected[index]),
            odd=bool(compared.odd[index]),
            why=compared.why[index],
        )
        for index, row in enumerate(rows)
    ]


def _sentence(found: Instances, rows: Sequence[Instance], compared: Oddness, min_volume_ml: float) -> str:
    """Say of a class how many instances there are, what was left out, and which are unlike the others."""
    name, known = structure(found.name).name, int(np.isfinite(compared.z).sum())
    left = [f"{found.small} smaller than {min_volume_ml:g} ml"] if found.small else []
    left += [f"{found.more} beyond the {len(rows)} largest"] if found.more else []
    parts = [f"{name}: {_counted(len(rows))}" + (f" ({' and '.join(left)} left out)." if left else ".")]
    odd = [row for row in rows if row.odd]
    if not known:
        parts += [f"Of fewer than {FEWEST} nothing is said of which is unlike the others."] if rows else []
    elif odd:
        told = ", ".join(f"number {row.number} ({row.why}, z {row.oddness:.1f})" for row in odd)
        chance = max(row.expected for row in odd)
        parts.append(
            f"Unlike the others of its size: {told}; among {known} that are alike, chance alone gives {chance:.2g} that lie as far "
            "out."
        )
    else:
        farthest = min((row for row in rows if math.isfinite(row.oddness)), key=lambda row: row.expected)
        parts.append(
            f"None is unlike the others: farthest out is number {farthest.number} (z {farthest.oddness:.1f}), and among {known} that "
            f"are alike, chance alone gives {farthest.expected:.2g} that lie as far out; one is marked below {EXPECTED:g}."
        )
    if math.isfinite(compared.size_correlation):
        parts.append(
            f"Share inside against volume: Spearman {compared.size_correlation:+.2f}; a line over log volume takes that off."
        )
    return " ".join(parts)


def _times(value: float) -> str:
    return f"{value:.0f}x" if value >= 9.95 else f"{value:.1f}x" if math.isfinite(value) else "-"


def _counted(count: int) -> str:
    return f"{count} instance" + ("" if count == 1 else "s")


def describe_instances(table: InstanceTable) -> str:
    """Return the table as lines for people, those unlike the others marked."""
    lines = [
        "Share of importance inside each instance, in the shell of its size around it, in the rim of "
        f"{table.rim_mm:g} mm, and outside, %",
        f"{'':<4}{'structure':<22}{'ml':>8}{'centre, LPS mm':>21}{'inside':>8}{'shell':>7}{'rim':>6}{'outside':>9}"
        f"{'times':>8}{'odd':>7}",
    ]
    for row in table.rows:
        shares = "".join(
            f"{100 * value:>{width}.0f}" if math.isfinite(value) else f"{'-':>{width}}"
            for value, width in ((row.inside, 8), (row.shell, 7), (row.rim, 6), (row.outside, 9))
        )
        centre = f"{row.x:.0f} {row.y:.0f} {row.z:.0f}"
        odd = f"{row.oddness:>7.1f}" if math.isfinite(row.oddness) else f"{'-':>7}"
        mark = f"  unlike the others: {row.why}" if row.odd else ""
        name = structure(row.structure).name
        lines.append(
            f"{row.number:>3} {name:<22.22}{row.volume_ml:>8.2f}{centre:>21}{shares}{_times(row.enrichment):>8}{odd}{mark}"
        )
    return "\n".join([*(lines if table.rows else []), "", *table.sentences]).strip()
