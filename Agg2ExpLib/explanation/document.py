"""explanation.json: everything needed to repeat an explanation, and to know whose it is."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import Agg2ExpLib
from Agg2ExpLib.case.attribution import Attribution, SupervoxelValues
from Agg2ExpLib.case.case import Case
from Agg2ExpLib.explanation.folder import FORMAT, FORMAT_VERSION, attribution_file
from Agg2ExpLib.explanation.inputs import Inputs
from Agg2ExpLib.request import Request, model_entry
from Agg2ExpLib.volume import Volume, file_sha256, read_volume


def class_entry(name: str, label: int, voxels: int, one: Attribution, channels: Sequence[str]) -> dict[str, Any]:
    """Return what the document says of an explained class."""
    entry: dict[str, Any] = {
        "id": name,
        "label": label,
        "status": "explained",
        "voxels": voxels,
        "objective": one.value,
        "windows_run": one.windows_run,
        "backward_passes": one.backward_passes,
        "file": attribution_file(name),
    }
    if len(channels) > 1:
        shares = np.abs(one.channels).sum(axis=(1, 2, 3), dtype=np.float64)
        entry["channels"] = dict(zip(channels, (shares / max(shares.sum(), 1e-300)).tolist(), strict=True))
    if np.isfinite(one.baseline_value):
        entry["baseline_objective"] = one.baseline_value
        entry["completeness_gap"] = one.completeness_gap
    if one.supervoxels is not None:
        entry.update(_supervoxel_notes(one.supervoxels))
    return entry


def _supervoxel_notes(table: SupervoxelValues) -> dict[str, Any]:
    notes: dict[str, Any] = {"supervoxels": len(table.names), "full_value": table.full}
    if np.isfinite(table.empty):
        change = table.full - table.empty
        gap = abs(float(table.values.sum()) - change) / max(abs(change), 1e-12)
        notes["removed_value"] = table.empty
        notes["coalitions"] = table.coalitions
        notes["efficiency_gap"] = gap
        notes["largest_standard_error"] = float(table.errors.max())
    return notes


def image_sha256(image: Any, volume: Volume) -> str:
    """SHA-256 of a scan's file; of voxels and affine for a volume in memory, which may have been changed since it was read."""
    if isinstance(image, (str, os.PathLike)):
        return volume.sha256 or file_sha256(image)
    return voxels_sha256(image if isinstance(image, Volume) else volume)


def scan_of(entry: Mapping[str, Any], path: Path) -> Path | Volume | None:
    """Return the scan that an entry of a document tells of, from where it is now; ``None`` when it is another one by now.

    Of a DICOM folder with several series it is the one that was explained.
    """
    told = str(entry.get("sha256") or "")
    ids = entry.get("dicom") or {}
    part = f":{ids['part']}" if ids.get("part") else ""
    series = f"{ids.get('series', '')}{part}" if path.is_dir() or part else ""
    if not told or file_sha256(path) == told:
        return path
    if series:
        volume = read_volume(path, series=series)
        return volume if voxels_sha256(volume) == told else None
    return None


def voxels_sha256(volume: Volume) -> str:
    """SHA-256 of voxels and affine."""
    digest = hashlib.sha256(np.ascontiguousarray(volume.voxels).tobytes())
    digest.update(np.ascontiguousarray(volume.affine).tobytes())
    return digest.hexdigest()


def image_entry(volume: Volume, sha256: str) -> dict[str, Any]:
    """Return what the document says of one volume of the scan."""
    return {
        "name": volume.source.name if volume.source else "volume in memory",
        "path": str(volume.source.resolve()) if volume.source else "",
        "sha256": sha256,
        "shape": list(volume.shape),
        "spacing_mm": list(volume.spacing),
        "affine": volume.affine.tolist(),
        **({"dicom": asdict(volume.dicom)} if volume.dicom else {}),
    }


def document_of(
    case: Case,
    request: Request,
    inputs: Inputs,
    hashes: Sequence[str],
    classes: Sequence[Mapping[str, Any]],
    messages: Sequence[str],
    timings: Mapping[str, float],
) -> dict[str, Any]:
    """Return the content of explanation.json, the list of files aside."""
    images = [image_entry(volume, digest) for volume, digest in zip(case.images, hashes, strict=True)]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "image": images[0],
        **({"other_channels": images[1:]} if len(images) > 1 else {}),
        "model": model_entry(case.model),
        "settings": request.to_dict(),
        "device": case.compute.device,
        "model_grid": {"shape": list(case.prepared.shape), "affine": case.prepared.grid.affine.tolist()},
        "windows": case.n_windows,
        "classes": list(classes),
        "regions": list(inputs.region_entries),
        **({"truth": inputs.truth_entry} if inputs.truth_entry else {}),
        **({"given_prediction": _given_entry(case.given)} if case.given is not None else {}),
        **({"supervoxel_map": inputs.supervoxel_map.to_dict()} if inputs.supervoxel_map else {}),
        "network_passes": {
            "segmentation_forward": case.segmentation.forward_passes,
            "attribution_forward": case.passes.forward,
            "attribution_backward": case.passes.backward,
        },
        "timings": {key: round(value, 3) for key, value in timings.items()},
        "messages": list(messages),
        "versions": _versions(),
    }


def _given_entry(given: Volume) -> dict[str, str]:
    path = given.source
    digest = voxels_sha256(given) if path is None else given.sha256 or file_sha256(path)
    return {"path": str(path.resolve()) if path else "", "sha256": digest}


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {"agg2exp": Agg2ExpLib.__version__, "python": platform.python_version()}
    for name in ("torch", "monai", "numpy", "SimpleITK"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "unknown"
    return versions
