"""What the scores of an explanation against a reference profile say, in words. Plain values; no Qt."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.scoring import FALSE_ALARMS
from Agg2ExpLib.cohort.judge.words import alarms_in_words, p_in_words, patient_in_words
from Agg2ExpLib.errors import InputError

UNUSUAL, USUAL, FEW, UNKNOWN, ABSENT = "unusual", "usual", "few", "unknown", "absent"
#: A score without a verdict: with so few reference cases chance alone exceeds the rate of false alarms that was asked for.
UNDECIDED = "undecided"
#: What is said of structures that have no score.
WITHOUT_SCORE = {
    FEW: "too few reference cases",
    UNKNOWN: "not in the reference",
    ABSENT: "absent from this scan",
}
_ORDER = (UNUSUAL, UNDECIDED, USUAL, FEW, UNKNOWN, ABSENT)
#: Reference scores kept per structure: more make a scene larger and no picture clearer.
MOST_SCORES = 200


@dataclass(frozen=True)
class Reason:
    """A region that makes a structure unusual, and the sentence that says so.

    Attributes
    ----------
    region, sentence : str
        Identifier of the region; the reason in words.
    value, low, high : float, optional
        Share of the attribution in the region, and the range of that share in the reference, 0 to 1.
    """

    region: str
    sentence: str
    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Verdict:
    """One structure against the reference.

    Attributes
    ----------
    structure : str
        Identifier.
    verdict : str
        ``unusual``, ``usual``, ``undecided`` (scored, but too few reference cases for a verdict), ``few`` (too few for a
        score), ``unknown`` (not in the reference) or ``absent``.
    percentile : float
        Share of the reference that is no more unusual, 0 to 100; 0 without a score.
    reasons : tuple of Reason
        Which regions make it so, the strongest first.
    score, threshold : float, optional
        Anomaly score, 0 to 1, and the score above which it is called unusual.
    reference : tuple of float
        Held-out scores of the reference cases, rising; of a large reference :data:`MOST_SCORES` evenly spaced ones.
    counted : int
        How many reference cases have a score for this structure.
    p : float, optional
        How often a usual structure has a score as high.
    """

    structure: str
    verdict: str
    percentile: float = 0.0
    reasons: tuple[Reason, ...] = ()
    score: float | None = None
    threshold: float | None = None
    reference: tuple[float, ...] = ()
    counted: int = 0
    p: float | None = None

    @property
    def plotted(self) -> bool:
        """Whether score, threshold and reference are known, so that they can be drawn."""
        return self.score is not None and self.threshold is not None and bool(self.reference)

    def distance(self) -> float | None:
        """Return how far from usual it is: 0 is the reference's median, 1 the threshold; ``None`` without a score.

        Examples
        --------
        >>> Verdict("heart", "unusual", 100.0, score=0.75, threshold=0.5, reference=(0.25, 0.25, 0.5)).distance()
        2.0
        """
        if self.score is None or self.threshold is None or not self.reference:
            return None
        middle = statistics.median(self.reference)
        if self.threshold <= middle:
            # All reference cases alike: what is above them is as far as can be told.
            return 2.0 if self.score > self.threshold else 0.0
        return (self.score - middle) / (self.threshold - middle)

    def words(self) -> str:
        """Return verdict and percentile in one line.

        Examples
        --------
        >>> Verdict("heart", "unusual", 97.5).words()
        'heart: UNUSUAL, percentile 97'
        >>> Verdict("heart", "unusual", 97.5, p=0.02).words()
        'heart: UNUSUAL (p 0.020), percentile 97'
        >>> Verdict("heart", "usual", 0.0, p=1.0).words()
        'heart: usual (p 1.00)'
        >>> Verdict("aorta", "few").words()
        'aorta: too few reference cases'
        """
        name = structure(self.structure).name
        if self.verdict in WITHOUT_SCORE:
            return f"{name}: {WITHOUT_SCORE[self.verdict]}"
        # Rounded down: only what is as odd as the oddest reference case is at 100.
        words = {UNUSUAL: "UNUSUAL", UNDECIDED: "too few reference cases for a verdict"}
        chance = "" if self.p is None else f" (p {p_in_words(self.p)})"
        told = f"{name}: {words.get(self.verdict, 'usual')}{chance}"
        # "Percentile 0" of what is usual reads as if something were wrong.
        return told if self.verdict == USUAL else f"{told}, percentile {int(self.percentile)}"


@dataclass(frozen=True)
class Verdicts:
    """One explanation against one reference.

    Attributes
    ----------
    profile : str
        Path of the reference profile.
    cases : int
        How many reference cases it has.
    verdicts : tuple of Verdict
        The most unusual first.
    notes : tuple of str
        What whoever reads them should know of the reference.
    false_alarms : float
        Share of usual structures, and of usual patients, that may be called unusual, 0 to 1.
    patient : mapping
        The ``patients`` entry of the file of scores: verdict on the patient as a whole, and how many structures chance alone
        makes unusual. Empty in scenes that were saved before there was one.
    """

    profile: str
    cases: int
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    false_alarms: float = FALSE_ALARMS
    patient: Mapping[str, Any] = field(default_factory=dict)

    def of(self, name: str) -> Verdict | None:
        """Return the verdict on one structure; ``None`` when there is none."""
        return next((one for one in self.verdicts if one.structure == name), None)

    def distances(self) -> dict[str, float]:
        """Return structure -> :meth:`Verdict.distance` of those that have one."""
        return {one.structure: far for one in self.verdicts if (far := one.distance()) is not None}

    def summary(self) -> str:
        """Return the whole in a sentence or two, with the notes on the reference."""
        scored = [one for one in self.verdicts if one.verdict not in WITHOUT_SCORE]
        odd = sum(one.verdict == UNUSUAL for one in scored)
        against = f"against {self.cases} reference cases"
        if not scored:
            text = f"No structure can be compared {against}."
        else:
            expected = self.patient.get("expected_by_chance")
            alarms = alarms_in_words(odd, len(scored), None if expected is None else float(expected))
            text = f"{_upper(against)}, {alarms}."
            if self.patient:
                told = patient_in_words(str(self.patient["verdict"]), self.patient["p"], self.false_alarms)
                text += f" {_upper(told)}."
            if odd or self.patient.get("verdict") == UNUSUAL:
                text += (
                    " Unusual means that the model looked elsewhere than it usually does: a reason to look at the scan, not a "
                    "finding."
                )
        return " ".join([text, *(f"{note[:1].upper()}{note[1:]}." for note in self.notes)])

    def to_text(self) -> str:
        """Return it as a text for a node of the scene."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Verdicts | None:
        """Read what :meth:`to_text` gave; ``None`` of anything else, for a scene may come from anywhere."""
        try:
            found = json.loads(text)
            verdicts = [
                Verdict(
                    str(one["structure"]),
                    _verdict(one["verdict"]),
                    float(one["percentile"]),
                    tuple(
                        Reason(
                            str(why["region"]),
                            str(why["sentence"]),
                            *(_number(why.get(k)) for k in ("value", "low", "high")),
                        )
                        for why in one["reasons"]
                    ),
                    _number(one.get("score")),
                    _number(one.get("threshold")),
                    tuple(float(score) for score in one.get("reference", ())[:MOST_SCORES]),
                    int(one.get("counted", 0)),
                    _number(one.get("p")),
                )
                for one in found["verdicts"]
            ]
            notes = tuple(str(note) for note in found["notes"])
            share = float(found.get("false_alarms", FALSE_ALARMS))
            patient = _patient(found.get("patient", {}))
            return cls(str(found["profile"]), int(found["cases"]), tuple(verdicts), notes, share, patient)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            return None


def verdicts_of(document: Mapping[str, Any] | None, profile: str, false_alarms: float = FALSE_ALARMS) -> Verdicts:
    """Return the verdicts in a file that ``agg2exp profile score`` wrote.

    Parameters
    ----------
    document : mapping
        Contents of the JSON file.
    profile : str
        Path of the profile.
    false_alarms : float
        What was asked for.

    Raises
    ------
    InputError
        It is not such a file.
    """
    try:
        if document is None or document["format"] != "agg2exp-scores":
            raise ValueError("not agg2exp-scores")
        reference = document.get("reference_scores", {})
        found = [_read(one, reference.get(one["class"], ())) for one in document["scores"]]
        notes = tuple(str(note) for note in document["warnings"])
        cases = int(document["reference_cases"])
        patients = document.get("patients", ())
        patient = _patient(patients[0] if len(patients) == 1 else {})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"the scores against {profile} cannot be read ({error}); compare again") from error
    found.sort(key=lambda one: (_ORDER.index(one.verdict), -one.percentile))
    return Verdicts(profile, cases, tuple(found), notes, false_alarms, patient)


def _patient(one: Mapping[str, Any]) -> dict[str, Any]:
    if not one:
        return {}
    return {
        "verdict": str(one["verdict"]),
        "p": _number(one["p"]),
        "expected_by_chance": float(one["expected_by_chance"]),
        "oddest": str(one.get("oddest", "")),
    }


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _read(one: Mapping[str, Any], reference: Sequence[float]) -> Verdict:
    count = len(reference)
    kept = reference if count <= MOST_SCORES else [reference[i * count // MOST_SCORES] for i in range(MOST_SCORES)]
    return Verdict(
        str(one["class"]),
        _verdict(one["verdict"] if one["status"] == "scored" else one["status"]),
        float(one["percentile"] or 0.0),
        tuple(
            Reason(
                str(why["roi"]), str(why["sentence"]), float(why["value"]), *(float(end) for end in why["reference"])
            )
            for why in one["reasons"]
            if why["told"]
        ),
        _number(one.get("score")),
        _number(one.get("threshold")),
        tuple(round(float(score), 6) for score in kept),
        count,
        _number(one.get("p")),
    )


def _number(value: object) -> float | None:
    return None if value is None else float(str(value))


def _verdict(word: object) -> str:
    if word not in _ORDER:
        raise ValueError(f"no verdict is called {word!r}")
    return str(word)
