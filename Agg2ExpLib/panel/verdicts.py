"""What the scores of an explanation against a reference profile say, in words. Plain values; no Qt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.errors import InputError

UNUSUAL, USUAL, FEW, UNKNOWN, ABSENT = "unusual", "usual", "few", "unknown", "absent"
#: What is said of structures that have no score.
WITHOUT_SCORE = {
    FEW: "too few reference cases",
    UNKNOWN: "not in the reference",
    ABSENT: "absent from this scan",
}
_ORDER = (UNUSUAL, USUAL, FEW, UNKNOWN, ABSENT)


@dataclass(frozen=True)
class Reason:
    """A region that makes a structure unusual, and the sentence that says so."""

    region: str
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """One structure against the reference.

    Attributes
    ----------
    structure : str
        Identifier.
    verdict : str
        ``unusual``, ``usual``, ``few`` (too few reference cases), ``unknown`` (not in the reference) or ``absent``.
    percentile : float
        Share of the reference that is no more unusual, 0 to 100; 0 without a score.
    reasons : tuple of Reason
        Which regions make it so, the strongest first.
    """

    structure: str
    verdict: str
    percentile: float = 0.0
    reasons: tuple[Reason, ...] = ()

    def words(self) -> str:
        """Return verdict and percentile in one line.

        Examples
        --------
        >>> Verdict("heart", "unusual", 97.5).words()
        'heart: UNUSUAL, percentile 97'
        >>> Verdict("aorta", "few").words()
        'aorta: too few reference cases'
        """
        name = structure(self.structure).name
        if self.verdict in WITHOUT_SCORE:
            return f"{name}: {WITHOUT_SCORE[self.verdict]}"
        # Rounded down: only what is as odd as the oddest reference case is at 100.
        word = "UNUSUAL" if self.verdict == UNUSUAL else "usual"
        return f"{name}: {word}, percentile {int(self.percentile)}"


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
    """

    profile: str
    cases: int
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return the whole in a sentence or two, with the notes on the reference."""
        scored = [one for one in self.verdicts if one.verdict not in WITHOUT_SCORE]
        odd = sum(one.verdict == UNUSUAL for one in scored)
        against = f"against {self.cases} reference cases"
        if not scored:
            text = f"No structure can be compared {against}."
        elif odd:
            text = (
                f"{odd} of {len(scored)} structures {'is' if odd == 1 else 'are'} unusual {against}: the model looked elsewhere "
                "than it did there. That is a reason to look at the scan, not a finding."
            )
        else:
            text = f"None of {len(scored)} structures is unusual {against}."
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
                    tuple(Reason(str(why["region"]), str(why["sentence"])) for why in one["reasons"]),
                )
                for one in found["verdicts"]
            ]
            notes = tuple(str(note) for note in found["notes"])
            return cls(str(found["profile"]), int(found["cases"]), tuple(verdicts), notes)
        except (KeyError, TypeError, ValueError, RecursionError):
            return None


def verdicts_of(document: Mapping[str, Any] | None, profile: str) -> Verdicts:
    """Return the verdicts in a file that ``agg2exp profile score`` wrote.

    Parameters
    ----------
    document : mapping
        Contents of the JSON file.
    profile : str
        Path of the profile.

    Raises
    ------
    InputError
        It is not such a file.
    """
    try:
        if document is None or document["format"] != "agg2exp-scores":
            raise ValueError("not agg2exp-scores")
        found = [
            Verdict(
                str(one["class"]),
                _verdict(one["verdict"] if one["status"] == "scored" else one["status"]),
                float(one["percentile"] or 0.0),
                tuple(Reason(str(why["roi"]), str(why["sentence"])) for why in one["reasons"] if why["told"]),
            )
            for one in document["scores"]
        ]
        notes = tuple(str(note) for note in document["warnings"])
        cases = int(document["reference_cases"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the scores against {profile} cannot be read ({error}); compare again") from error
    found.sort(key=lambda one: (_ORDER.index(one.verdict), -one.percentile))
    return Verdicts(profile, cases, tuple(found), notes)


def _verdict(word: object) -> str:
    if word not in _ORDER:
        raise ValueError(f"no verdict is called {word!r}")
    return str(word)
