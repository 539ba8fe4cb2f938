"""From a seed to a CT: patient, canvas, findings, then the scanner's blur and noise; and folders of such cases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from Agg2ExpLib.anatomy import THORAX_17
from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.phantom.findings import Finding, add_finding
from Agg2ExpLib.phantom.patient import STREAM, Patient
from Agg2ExpLib.phantom.shapes import Canvas
from Agg2ExpLib.phantom.thorax import Thorax
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.storage import safe_file_name, write_file

if TYPE_CHECKING:
    from Agg2ExpLib.volume import Volume

#: Field of view in mm (right-left, back-front, foot-head) and the world position of its centre.
FIELD_OF_VIEW = (336.0, 258.0, 300.0)
_CENTRE = (0.0, -12.0, 0.0)
#: Spacings (mm) that a case may be generated at; finer than the first would take over ten gigabytes.
SPACING_RANGE = (0.5, 10.0)


@dataclass(frozen=True)
class Phantom:
    """One generated case.

    Attributes
    ----------
    image : Volume
        CT in HU, int16, axes RAS.
    labels : Volume
        Ground truth, uint8, classes of ``anatomy.THORAX_17``.
    findings : dict of str to Volume
        Mask (uint8) of each finding by name.
    description : dict
        Seed, index, sex, age, spacing and findings: all that is needed to make it again.
    """

    image: Volume
    labels: Volume
    findings: dict[str, Volume]
    description: dict[str, object]


def make_phantom(
    seed: int = 0,
    index: int = 0,
    spacing: float | Sequence[float] = 1.5,
    findings: Sequence[Finding] = (),
) -> Phantom:
    """Generate one chest CT with its ground truth.

    Parameters
    ----------
    seed, index : int
        Patient ``index`` of cohort ``seed``; the same pair is the same patient at every spacing.
    spacing : float or three floats
        Voxel size in mm, along right-left, back-front and foot-head.
    findings : sequence of Finding
        What ails the patient.

    Returns
    -------
    Phantom
        Image, labels, finding masks and description.

    Raises
    ------
    InputError
        A negative seed or a spacing outside 0.5 to 10 mm.
    """
    from Agg2ExpLib.volume import Grid, Volume

    size = _checked(seed, index, spacing)
    patient = Patient.draw(seed, index)
    shape = tuple(round(float(extent / step)) for extent, step in zip(FIELD_OF_VIEW, size, strict=True))
    origin = np.array(_CENTRE) - 0.5 * (np.array(shape) - 1) * size
    canvas = Canvas((shape[0], shape[1], shape[2]), size, origin, patient.placement)
    thorax = Thorax(canvas, patient)
    thorax.paint()
    masks = _add_findings(thorax, findings, seed, index)
    affine = np.diag([*size, 1.0])
    affine[:3, 3] = origin
    grid = Grid(canvas.shape, affine)
    description: dict[str, object] = {
        "generator": "agg2exp thorax phantom",
        "seed": seed,
        "index": index,
        "spacing_mm": size.tolist(),
        "sex": patient.sex,
        "age": patient.age,
        "labels": list(THORAX_17),
        "findings": [
            {
                "name": name,
                "kind": f.kind,
                "severity": f.severity,
                "side": f.side,
                "lobe": f.lobe,
                "voxels": int(masks[name].sum()),
            }
            for name, f in zip(masks, findings, strict=True)
        ],
    }
    return Phantom(
        Volume(_scan(canvas, patient, seed, index), grid),
        Volume(canvas.labels, grid),
        {name: Volume(mask.astype(np.uint8), grid) for name, mask in masks.items()},
        description,
    )


def _checked(seed: int, index: int, spacing: float | Sequence[float]) -> np.ndarray:
    """Return the three spacings (mm), or say which number cannot be used."""
    if seed < 0 or index < 0:
        raise InputError(f"seed {seed} and index {index} of a phantom must not be negative")
    size = np.asarray(spacing, dtype=float)
    if size.shape not in ((), (3,)):
        raise InputError(f"phantom spacing {spacing} mm: give one number or three")
    low, high = SPACING_RANGE
    if not np.all((size >= low) & (size <= high)):
        shown = ",".join(f"{value:g}" for value in (size if len(np.unique(size)) > 1 else np.unique(size)))
        raise InputError(f"phantom spacing {shown} mm: use {low:g} to {high:g} mm")
    return np.broadcast_to(size, (3,))


def _add_findings(thorax: Thorax, findings: Sequence[Finding], seed: int, index: int) -> dict[str, np.ndarray]:
    masks: dict[str, np.ndarray] = {}
    for number, finding in enumerate(findings):
        rng = np.random.default_rng([STREAM + 1, seed, index, number])
        taken = sum(name == finding.kind or name.startswith(f"{finding.kind}_") for name in masks)
        name = finding.kind if not taken else f"{finding.kind}_{taken + 1}"
        masks[name] = add_finding(thorax, finding, rng)
    return masks


def _scan(canvas: Canvas, patient: Patient, seed: int, index: int) -> np.ndarray:
    """Blur by the scanner's point spread and add noise whose grains are correlated, as after reconstruction."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng([STREAM + 2, seed, index])
    hu = gaussian_filter(canvas.hu, patient.blur / canvas.spacing)
    grains = gaussian_filter(rng.normal(size=canvas.shape).astype(np.float32), 0.7 / canvas.spacing)
    # Larger voxels average more photons; the filter's own damping is undone first.
    grains *= patient.noise / max(float(grains.std()), 1e-6) * min(1.0, (1.5 / float(canvas.spacing.mean())) ** 0.75)
    return np.clip(np.rint(hu + grains), -1024, 3071).astype(np.int16)


def write_phantoms(
    folder: str | Path,
    count: int,
    seed: int = 0,
    spacing: float | Sequence[float] = 1.5,
    findings: Sequence[Finding] = (),
    first: int = 0,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``count`` cases as folders with ``ct.nii.gz``, ``segmentation.nii.gz``, ``findings/`` and ``case.json``.

    ``case.json`` is written last: a folder that has it is complete, and is skipped when the command is run again with
    the same numbers, so that a stopped run goes on where it was. Other numbers replace the case.

    Returns
    -------
    list of Path
        The case folders.

    Raises
    ------
    InputError
        A count below 1, or what :func:`make_phantom` refuses.
    OutputError
        A folder that cannot be written.
    """
    if count < 1:
        raise InputError(f"cannot generate {count} phantoms: ask for at least 1")
    _checked(seed, first, spacing)
    progress = progress or Progress()
    progress.stage("phantoms", count)
    cases = []
    for index in range(first, first + count):
        case = Path(folder) / f"phantom_{seed:04d}_{index:04d}"
        try:
            case.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot create {case}: {error.strerror}; choose another folder with --out") from error
        if not _is_done(case, seed, index, spacing, findings):
            _write_case(make_phantom(seed, index, spacing, findings), case)
        cases.append(case)
        progress.advance(detail=case.name)
    return cases


def _write_case(phantom: Phantom, case: Path) -> None:
    from Agg2ExpLib.volume import write_volume

    try:
        # An earlier case of other numbers must neither look complete meanwhile nor leave its findings behind.
        (case / "case.json").unlink(missing_ok=True)
        for mask in case.glob("findings/*.nii.gz"):
            mask.unlink()
        if phantom.findings:
            (case / "findings").mkdir(exist_ok=True)
        write_volume(phantom.image, case / "ct.nii.gz")
        write_volume(phantom.labels, case / "segmentation.nii.gz")
        for name, volume in phantom.findings.items():
            write_volume(volume, case / "findings" / f"{safe_file_name(name)}.nii.gz")
        write_file(case / "case.json", json.dumps(phantom.description, indent=2) + "\n")
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {case}: {error.strerror}; choose another folder with --out") from error


def _is_done(case: Path, seed: int, index: int, spacing: float | Sequence[float], findings: Sequence[Finding]) -> bool:
    try:
        found = json.loads((case / "case.json").read_text(encoding="utf-8"))
        complete = isinstance(found, dict) and all((case / n).is_file() for n in ("ct.nii.gz", "segmentation.nii.gz"))
    except (OSError, ValueError):
        return False
    if not complete:
        return False
    size = np.broadcast_to(np.asarray(spacing, dtype=float), (3,)).tolist()
    wanted = [(f.kind, f.severity, f.side, f.lobe) for f in findings]
    there = [(f.get("kind"), f.get("severity"), f.get("side"), f.get("lobe", "")) for f in found.get("findings", [])]
    return (found.get("seed"), found.get("index"), found.get("spacing_mm"), there) == (seed, index, size, wanted)
