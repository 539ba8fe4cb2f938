"""What Slicer's Sample Data module offers of this extension: a CT to explain, and the same CT explained already.

A reference of healthy phantoms comes with it: a profile to compare with, the sample's scores, and the cohort behind them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from Agg2ExpLib.cohort.run.store import DOCUMENT as COHORT_DOCUMENT
from Agg2ExpLib.errors import OutputError
from Agg2ExpLib.explanation.folder import DOCUMENT, Explanation
from Agg2ExpLib.storage import write_folder

CATEGORY = "Agg2Exp"
#: Names in the Sample Data module; scripts use them too.
CT_NAME, EXPLAINED_NAME = "Thorax phantom CT", "Thorax phantom explained"
#: Under the module's resources. Made by Resources/SampleData/make_sample.py of the source.
FOLDER = Path("SampleData") / "thorax-phantom-explained"
#: The reference. Made by Resources/SampleData/make_reference.py; the profile is of more cases than the folder has.
COHORT = Path("SampleData") / "thorax-phantom-reference"
PROFILE, SCORES = "60-healthy-phantoms.npz", "scores.json"
_SCAN = Path("model_grid") / "image.nii.gz"
_ICONS = {CT_NAME: "Agg2ExpSampleCT.png", EXPLAINED_NAME: "Agg2ExpSampleExplained.png"}


def register(resources: Path, show_explained: Callable[[Any], Any]) -> None:
    """Offer the samples that lie under the module's resources; nothing where they are not installed.

    Parameters
    ----------
    resources : Path
        The module's folder ``Resources``.
    show_explained : callable
        Opens the explained one; called with what was registered when its picture is pressed.
    """
    scan = resources / FOLDER / _SCAN
    if not scan.is_file():
        return
    import SampleData

    logic = SampleData.SampleDataLogic
    # Before Slicer 5.12 a category had no title of its own.
    if hasattr(logic, "registerCustomSampleDataCategory"):
        logic.registerCustomSampleDataCategory(CATEGORY, title=CATEGORY)
    # Slicer keeps a copy under the file's name; the checksum tells it when an update of the extension brings another.
    digest = hashlib.sha256(scan.read_bytes()).hexdigest()
    files = {"uris": scan.as_uri(), "fileNames": "Agg2ExpThoraxPhantomCT.nii.gz", "checksums": f"SHA256:{digest}"}
    for name, loader in ((CT_NAME, None), (EXPLAINED_NAME, show_explained)):
        logic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=name,
            nodeNames=CT_NAME,
            loadFileTypes="VolumeFile",
            thumbnailFileName=str(resources / "Icons" / _ICONS[name]),
            customDownloader=loader,
            **files,
        )


def own_copy(resources: Path, results_folder: Path) -> Path:
    """Return a copy of the explained sample among the user's results: figures are drawn into it, and scenes refer to it.

    Raises
    ------
    InputError
        The sample is not installed, or is incomplete.
    OutputError
        There is no room for it, or the folder of results cannot be written.
    """
    return _copied(Explanation.load(resources / FOLDER).folder, DOCUMENT, results_folder)


def own_cohort(resources: Path, results_folder: Path) -> Path | None:
    """Return a copy of the cohort behind the reference, into which reports are written; ``None`` where none is installed.

    Raises
    ------
    OutputError
        As :func:`own_copy`.
    """
    there = (resources / COHORT / COHORT_DOCUMENT).is_file()
    return _copied(resources / COHORT, COHORT_DOCUMENT, results_folder) if there else None


def reference(resources: Path) -> tuple[Path | None, dict[str, Any] | None]:
    """Return the profile that comes with the sample and the sample's scores against it; ``None`` where none is installed."""
    profile, scores = (resources / COHORT / name for name in (PROFILE, SCORES))
    if not (profile.is_file() and scores.is_file()):
        return None, None
    return profile, json.loads(scores.read_text(encoding="utf-8"))


def _copied(source: Path, document: str, results_folder: Path) -> Path:
    """Copy a folder, whose document tells versions apart, to the user's results, once."""
    sign = hashlib.sha256((source / document).read_bytes()).hexdigest()[:8]
    target = results_folder / f"{source.name}-{sign}"
    if (target / document).is_file():
        return target
    try:
        with write_folder(target) as part:
            shutil.copytree(source, part, dirs_exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the sample cannot be copied to {results_folder} ({error}); free space, or choose another folder for results "
            "under Advanced"
        ) from error
    return target
