"""The reference profile: everything that is needed to score new cases against a cohort, in one file without code.

The file is a NumPy ``.npz`` archive, read with pickle switched off. Its members:

``document``
    UTF-8 JSON as bytes: format, version, identity (model sha256, method, settings), class, RoI and case names, seed, package
    versions, and the SHA-256 of every other member.
``features``
    float64 (cases, classes, rois): mass accuracies; the row of a class that a case lacks is NaN.
``held_out``
    float64 (cases, classes): anomaly score of each reference case by a forest that has not seen it.
``checks``
    float64 (classes,): score of the reference's mean row, which forests grown again must give once more.

Forests are grown again from features and seed, which gives the same forests with the same scikit-learn.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.cohort.judge.forest import TREES, anomaly_score, fit_forest, held_out_scores
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.request import difference
from Agg2ExpLib.storage import write_file

FORMAT = "agg2exp-profile"
FORMAT_VERSION = 1
#: Fewer reference cases than this are warned of; with fewer than :data:`FEWEST` there is nothing to fit.
FEW, FEWEST = 10, 3
_ARRAYS = ("features", "held_out", "checks")
_LARGEST = 4 * 1024**3
#: What may differ: the seed of the noise changes a sample, not what is measured.
_MAY_DIFFER = ("seed",)


@dataclass(frozen=True, eq=False)
class Profile:
    """What is usual in a reference cohort.

    Attributes
    ----------
    identity : mapping
        Model and settings that cases must share to be scored.
    cases, classes, rois : tuple of str
        Names along the axes of ``features``.
    features : ndarray, shape (cases, classes, rois)
        RoI importances (mass accuracy); NaN rows for classes that a case lacks.
    held_out : ndarray, shape (cases, classes)
        Anomaly score of each case by a forest that has not seen it; NaN where the class is absent or cannot be scored.
    checks : ndarray, shape (classes,)
        Score of the mean row, as fitted.
    seed : int
        Of the forests.
    versions : mapping of str to str
        Packages that made it.
    """

    identity: Mapping[str, Any]
    cases: tuple[str, ...]
    classes: tuple[str, ...]
    rois: tuple[str, ...]
    features: np.ndarray
    held_out: np.ndarray
    checks: np.ndarray
    seed: int
    versions: Mapping[str, str]

    def reference(self, name: str) -> np.ndarray:
        """Return the rows of a class, shape (cases that have it, rois)."""
        rows = self.features[:, self.classes.index(name)]
        return rows[np.isfinite(rows).all(axis=1)]

    def counts(self) -> dict[str, int]:
        """Return how many reference cases have each class."""
        return {name: len(self.reference(name)) for name in self.classes}

    def forest(self, name: str) -> Any:
        """Grow the forest of a class; ``None`` when the reference has too few cases of it.

        Raises
        ------
        InputError
            The installed scikit-learn grows another forest than the one that the profile's scores come from.
        """
        rows = self.reference(name)
        if len(rows) < FEWEST:
            return None
        forest = fit_forest(rows, self.seed)
        score = float(anomaly_score(forest, rows.mean(axis=0, keepdims=True))[0])
        if not np.isclose(score, self.checks[self.classes.index(name)], rtol=1e-9):
            raise InputError(
                f"scikit-learn {_versions()['scikit-learn']} grows other forests than {self.versions.get('scikit-learn')}, "
                "which made this profile; fit the profile again"
            )
        return forest

    def refuse_other(self, identity: Mapping[str, Any], what: str) -> None:
        """Refuse to score what was made with another model, method or settings.

        Raises
        ------
        InputError
            It was, with what differs.
        """
        told = difference(self.identity, identity, _MAY_DIFFER)
        if told:
            raise InputError(
                f"{what} cannot be scored with this profile: {told}; fit a profile with the same or explain again"
            )

    def warnings(self) -> list[str]:
        """Return what whoever uses the profile should know."""
        notes = []
        counts = self.counts()
        few = [name for name, count in counts.items() if FEWEST <= count < FEW]
        none = [name for name, count in counts.items() if count < FEWEST]
        if few:
            notes.append(f"fewer than {FEW} reference cases have {_some(few)}: their percentiles mean little")
        if none:
            notes.append(f"fewer than {FEWEST} reference cases have {_some(none)}: not scored")
        still = [
            name
            for name in self.classes
            if counts[name] >= FEWEST and not (np.ptp(self.reference(name), axis=0) > 0).any()
        ]
        if still:
            notes.append(f"all reference cases are alike in {_some(still)}: nothing can be told from their scores")
        return notes

    def save(self, path: str | Path) -> Path:
        """Write the file, whole or not at all.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        path = Path(path)
        arrays = {name: np.ascontiguousarray(getattr(self, name), dtype=np.float64) for name in _ARRAYS}
        document = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "identity": dict(self.identity),
            "cases": self.cases,
            "classes": self.classes,
            "rois": self.rois,
            "counts": self.counts(),
            "forest": {"trees": TREES, "seed": self.seed, "features": "mass"},
            "versions": dict(self.versions),
            "sha256": {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()},
        }
        text = np.frombuffer(json.dumps(document, sort_keys=True).encode(), dtype=np.uint8)
        stream = io.BytesIO()
        np.savez_compressed(stream, allow_pickle=False, document=text, **arrays)
        write_file(path, stream.getvalue())
        return path

    @classmethod
    def load(cls, path: str | Path) -> Profile:
        """Read a profile; nothing in it is executed.

        Raises
        ------
        InputError
            Missing, truncated, changed since it was written, or of a newer version.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: there is no such profile; make one with agg2exp profile fit")
        try:
            with zipfile.ZipFile(path) as archive:
                if sum(member.file_size for member in archive.infolist()) > _LARGEST:
                    raise InputError(f"{path} unpacks to more than a profile can hold; do not use it")
            with np.load(path, allow_pickle=False) as archive:
                document = json.loads(archive["document"].tobytes())
                if document["format"] != FORMAT:
                    raise ValueError("another format")
                if document["format_version"] > FORMAT_VERSION:
                    raise InputError(
                        f"{path} has format version {document['format_version']}, this Agg2Exp reads up to "
                        f"{FORMAT_VERSION}; update Agg2Exp to use it"
                    )
                arrays = {name: archive[name] for name in _ARRAYS}
            return _checked(path, document, arrays)
        except InputError:
            raise
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            EOFError,
            zipfile.BadZipFile,
            RecursionError,
            MemoryError,
        ) as error:
            raise InputError(
                f"{path} is no profile, or a damaged one ({error}); fit it again or copy it again"
            ) from error
        except Exception as error:  # zlib's own errors and what else a broken archive brings
            raise InputError(f"{path} is damaged ({error}); fit it again or copy it again") from error


def fit_profile(table: CohortTable, seed: int = 0, progress: Progress | None = None) -> Profile:
    """Learn what is usual in a cohort.

    Parameters
    ----------
    table : CohortTable
        The reference cases.
    seed : int
        Of the forests.
    progress : Progress
        One unit a class.

    Returns
    -------
    Profile
        With held-out scores of the reference cases themselves.

    Raises
    ------
    InputError
        No class has enough cases.
    """
    progress = progress or Progress()
    features = table.values["mass"]
    held_out = np.full(features.shape[:2], np.nan)
    checks = np.full(features.shape[1], np.nan)
    progress.stage("profile", len(table.classes))
    for index, name in enumerate(table.classes):
        there = np.isfinite(features[:, index]).all(axis=1)
        rows = features[there, index]
        if len(rows) >= FEWEST:
            held_out[there, index] = held_out_scores(rows, seed)
            checks[index] = anomaly_score(fit_forest(rows, seed), rows.mean(axis=0, keepdims=True))[0]
        progress.advance(detail=name)
    if not np.isfinite(checks).any():
        raise InputError(f"the cohort has {len(table.cases)} cases: a profile needs at least {FEWEST} with one class")
    return Profile(
        table.identity, table.cases, table.classes, table.rois, features, held_out, checks, seed, _versions()
    )


def _checked(path: Path, document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Profile:
    for name, array in arrays.items():
        if array.dtype != np.float64 or hashlib.sha256(array.tobytes()).hexdigest() != document["sha256"][name]:
            raise InputError(f"{path} has been changed since it was written ({name}); fit it again or copy it again")
    cases, classes, rois = (tuple(map(str, document[axis])) for axis in ("cases", "classes", "rois"))
    shape = (len(cases), len(classes), len(rois))
    if (
        arrays["features"].shape != shape
        or arrays["held_out"].shape != shape[:2]
        or arrays["checks"].shape != shape[1:2]
    ):
        raise InputError(f"{path} holds arrays that do not fit its names; fit it again")
    if document["forest"]["trees"] != TREES or document["forest"]["features"] != "mass":
        raise InputError(f"{path} asks for forests that this Agg2Exp does not grow; update Agg2Exp")
    dict(document["identity"]["model"]), dict(document["identity"]["settings"])
    return Profile(
        document["identity"],
        cases,
        classes,
        rois,
        arrays["features"],
        arrays["held_out"],
        arrays["checks"],
        int(document["forest"]["seed"]),
        dict(document["versions"]),
    )


def _versions() -> dict[str, str]:
    import sklearn

    import Agg2ExpLib

    return {"agg2exp": Agg2ExpLib.__version__, "numpy": np.__version__, "scikit-learn": sklearn.__version__}


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
