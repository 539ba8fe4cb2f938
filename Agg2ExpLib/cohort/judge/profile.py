"""The reference profile: everything that is needed to score new cases against a cohort, in one file without code.

The file is a NumPy ``.npz`` archive, read with pickle switched off. Its members:

``document``
    UTF-8 JSON as bytes: format, version, identity (model sha256, method, settings), class, RoI and case names, seed, package
    versions, and the SHA-256 of every other member.
``features``
    float64 (cases, classes, rois): mass accuracies; the row of a class that a case lacks is NaN.
``held_out``, ``errors``
    float64 (cases, classes): anomaly score of each reference case by a forest that has not seen it, and the standard error
    that it has from the forest's random choices.
``volumes``
    float64 (cases, rois): share of the volume that each region has; NaN where it is not known.
``checks``
    float64 (classes,): score of the reference's mean row, which forests grown again must give once more.

Forests are grown again from features and seed, which gives the same forests with the same NumPy.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.conformal import weights_of
from Agg2ExpLib.cohort.judge.forest import (
    TREES,
    Forest,
    anomaly_score,
    fit_forest,
    held_out_scores,
    stability,
    trees_for,
)
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.request import difference
from Agg2ExpLib.storage import write_file

FORMAT = "agg2exp-profile"
FORMAT_VERSION = 2
#: Fewer reference cases than this are warned of; with fewer than :data:`FEWEST` there is nothing to fit.
FEW, FEWEST = 19, 3
#: Correlation that scores of two seeds are to have where nothing else is asked for, and the most trees that it may take.
STABILITY, MOST_TREES = 0.95, 10_000
_ARRAYS = ("features", "held_out", "errors", "volumes", "checks")
_LARGEST = 4 * 1024**3
# Below this the seed decides too much.
_UNSTABLE = 0.9
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
    errors : ndarray, shape (cases, classes)
        Standard errors of these scores from the random choices of the trees.
    volumes : ndarray, shape (cases, rois)
        Share of the volume that each region has; NaN where it is not known.
    patients : ndarray of int, shape (cases,)
        Whose scan each case is.
    checks : ndarray, shape (classes,)
        Score of the mean row, as fitted.
    seed, trees : int
        Of each forest.
    versions : mapping of str to str
        Packages that made it.
    """

    identity: Mapping[str, Any]
    cases: tuple[str, ...]
    classes: tuple[str, ...]
    rois: tuple[str, ...]
    features: np.ndarray
    held_out: np.ndarray
    errors: np.ndarray
    volumes: np.ndarray
    patients: np.ndarray
    checks: np.ndarray
    seed: int
    trees: int
    versions: Mapping[str, str]

    def reference(self, name: str) -> np.ndarray:
        """Return the rows of a class, shape (cases that have it, rois)."""
        rows = self.features[:, self.classes.index(name)]
        return rows[np.isfinite(rows).all(axis=1)]

    def counts(self) -> dict[str, int]:
        """Return how many reference cases have each class."""
        return {name: len(self.reference(name)) for name in self.classes}

    def weights(self) -> np.ndarray:
        """Return the weight of each reference case, shape (cases,): 1 over the number of scans of its patient."""
        return weights_of(self.patients)

    def stabilities(self) -> dict[str, float]:
        """Return, per class, how scores of another seed would correlate with these; NaN where nothing varies."""
        return {name: stability(self.held_out[:, i], self.errors[:, i]) for i, name in enumerate(self.classes)}

    def forest(self, name: str) -> Forest | None:
        """Grow the forest of a class; ``None`` when the reference has too few cases of it.

        Raises
        ------
        InputError
            The installed NumPy draws other random numbers than the one that the profile's scores come from.
        """
        rows = self.reference(name)
        if len(rows) < FEWEST or not np.isfinite(self.checks[self.classes.index(name)]):
            return None
        forest = fit_forest(rows, self.seed, self.trees)
        score = float(anomaly_score(forest, rows.mean(axis=0, keepdims=True))[0])
        if not np.isclose(score, self.checks[self.classes.index(name)], rtol=1e-9):
            raise InputError(
                f"numpy {np.__version__} grows other forests than {self.versions.get('numpy')}, which made this profile; "
                "fit the profile again"
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
            notes.append(f"fewer than {FEW} reference cases have {_some(few)}: none of it can be called unusual at 5 %")
        if none:
            notes.append(f"fewer than {FEWEST} reference cases have {_some(none)}: not scored")
        still = [
            name
            for name in self.classes
            if counts[name] >= FEWEST and not (np.ptp(self.reference(name), axis=0) > 0).any()
        ]
        if still:
            notes.append(f"all reference cases are alike in {_some(still)}: nothing can be told from their scores")
        unstable = [name for name, value in self.stabilities().items() if value < _UNSTABLE]
        if unstable:
            notes.append(
                f"{self.trees} trees are few for {_some(unstable)}: scores of another seed would correlate with these by less "
                f"than {_UNSTABLE:g}; fit the profile with more"
            )
        return notes

    def stability_in_words(self) -> str:
        """Return how much the scores depend on the seed, in one sentence."""
        known = [value for value in self.stabilities().values() if math.isfinite(value)]
        if not known:
            return f"{self.trees} trees per structure"
        return (
            f"{self.trees} trees per structure: scores of another seed would correlate with these by {min(known):.2f} to "
            f"{max(known):.2f}"
        )

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
            "forest": {"trees": self.trees, "seed": self.seed, "features": "mass"},
            "patients": [int(number) for number in self.patients],
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
                if document["format_version"] < FORMAT_VERSION:
                    raise InputError(
                        f"{path} was fitted by an earlier Agg2Exp, whose verdicts did not count chance; fit it again"
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


def fit_profile(
    table: CohortTable,
    seed: int = 0,
    progress: Progress | None = None,
    *,
    trees: int | None = None,
    wanted: float = STABILITY,
) -> Profile:
    """Learn what is usual in a cohort.

    Parameters
    ----------
    table : CohortTable
        The reference cases. Several scans of one patient (column ``patient``) are held out together.
    seed : int
        Of the forests.
    progress : Progress
        One unit a class.
    trees : int, optional
        Of each forest. By default 1000, or as many as ``wanted`` needs; the paper has 100.
    wanted : float
        Correlation that scores of another seed are to have with these, in every class; not with ``trees``.

    Returns
    -------
    Profile
        With held-out scores of the reference cases themselves.

    Raises
    ------
    InputError
        No class has enough cases, or a number of trees or a stability that cannot be.
    """
    if trees is not None and not 1 <= trees <= MOST_TREES:
        raise InputError(f"{trees} trees: give 1 to {MOST_TREES}")
    if not 0.0 < wanted < 1.0:
        raise InputError(f"a stability of {wanted:g}: it must be between 0 and 1, such as 0.95")
    progress = progress or Progress()
    features, patients = table.values["mass"], table.patients()
    progress.stage("profile", len(table.classes))
    scores, errors = np.full(features.shape[:2], np.nan), np.full(features.shape[:2], np.nan)
    grown = trees or TREES
    for index, name in enumerate(table.classes):
        _hold_out(features, index, patients, seed, grown, (scores, errors))
        progress.advance(detail=name)
    if trees is None:
        needed = [trees_for(stability(scores[:, i], errors[:, i]), grown, wanted) for i in range(len(table.classes))]
        more = min(max(needed), MOST_TREES)
        if more > grown:
            grown = more
            progress.stage("profile, more trees", len(table.classes))
            for index, name in enumerate(table.classes):
                _hold_out(features, index, patients, seed, grown, (scores, errors))
                progress.advance(detail=name)
    checks = np.full(features.shape[1], np.nan)
    for index in np.flatnonzero(np.isfinite(scores).any(axis=0)).tolist():
        rows = features[np.isfinite(features[:, index]).all(axis=1), index]
        checks[index] = anomaly_score(fit_forest(rows, seed, grown), rows.mean(axis=0, keepdims=True))[0]
    if not np.isfinite(checks).any():
        raise InputError(f"the cohort has {len(table.cases)} cases: a profile needs at least {FEWEST} with one class")
    return Profile(
        table.identity, table.cases, table.classes, table.rois, features, scores, errors, table.volumes, patients, checks,
        seed, grown, _versions(),
    )  # fmt: skip


def _hold_out(
    features: np.ndarray, index: int, patients: np.ndarray, seed: int, trees: int, into: tuple[np.ndarray, np.ndarray]
) -> None:
    there = np.isfinite(features[:, index]).all(axis=1)
    if there.sum() >= FEWEST and len(np.unique(patients[there])) > 1:
        found = held_out_scores(features[there, index], seed, trees, patients[there])
        for matrix, values in zip(into, found, strict=True):
            matrix[there, index] = values


def _checked(path: Path, document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Profile:
    for name, array in arrays.items():
        if array.dtype != np.float64 or hashlib.sha256(array.tobytes()).hexdigest() != document["sha256"][name]:
            raise InputError(f"{path} has been changed since it was written ({name}); fit it again or copy it again")
    cases, classes, rois = (tuple(map(str, document[axis])) for axis in ("cases", "classes", "rois"))
    shape = (len(cases), len(classes), len(rois))
    if (
        arrays["features"].shape != shape
        or any(arrays[name].shape != shape[:2] for name in ("held_out", "errors"))
        or arrays["volumes"].shape != (shape[0], shape[2])
        or arrays["checks"].shape != shape[1:2]
    ):
        raise InputError(f"{path} holds arrays that do not fit its names; fit it again")
    trees, patients = int(document["forest"]["trees"]), np.array(document["patients"], dtype=np.int64)
    if not 1 <= trees <= MOST_TREES or document["forest"]["features"] != "mass":
        raise InputError(f"{path} asks for forests that this Agg2Exp does not grow; update Agg2Exp")
    if patients.shape != shape[:1]:
        raise InputError(f"{path} does not say whose scan each case is; fit it again")
    dict(document["identity"]["model"]), dict(document["identity"]["settings"])
    return Profile(
        document["identity"],
        cases,
        classes,
        rois,
        arrays["features"],
        arrays["held_out"],
        arrays["errors"],
        arrays["volumes"],
        patients,
        arrays["checks"],
        int(document["forest"]["seed"]),
        trees,
        dict(document["versions"]),
    )


def _versions() -> dict[str, str]:
    import sklearn

    import Agg2ExpLib

    return {"agg2exp": Agg2ExpLib.__version__, "numpy": np.__version__, "scikit-learn": sklearn.__version__}


def _some(names: list[str]) -> str:
    return ", ".join(structure(name).name for name in names[:5]) + (
        f" and {len(names) - 5} more" if len(names) > 5 else ""
    )
