"""A batch as plain values: what was asked for, what its folder holds, how long it will take. No Qt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from Agg2ExpLib.cohort.run.cases import CohortCase
from Agg2ExpLib.cohort.run.store import DOCUMENT, CohortFolder, file_stem
from Agg2ExpLib.errors import OutputError
from Agg2ExpLib.panel.words.choices import Choices
from Agg2ExpLib.panel.words.options import given, options_of
from Agg2ExpLib.storage import write_file

#: File in the cohort folder with what the panel was asked for, so that the folder alone suffices to go on.
REQUEST_FILE = "panel.json"
DONE, FAILED, WAITING = "done", "failed", "waiting"
_LARGEST_REQUEST = 1 << 20


@dataclass(frozen=True)
class Request:
    """What a batch does.

    Attributes
    ----------
    source, out : str
        Folder or table of cases; cohort folder.
    choices : Choices
        Model, structures, method.
    keep : bool
        Keep the attribution volumes, so that cases can be opened.
    workers : int
        Processes.
    """

    source: str = ""
    out: str = ""
    choices: Choices = field(default_factory=Choices)
    keep: bool = False
    workers: int = 1

    def to_text(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_text(cls, text: str) -> Request | None:
        """Read what :meth:`to_text` gave; ``None`` of anything else."""
        try:
            found = json.loads(text)
            workers = min(max(int(found["workers"]), 1), 64)
            choices = _choices_of(found["choices"])
            return cls(str(found["source"]), str(found["out"]), choices, bool(found["keep"]), workers)
        except (KeyError, TypeError, ValueError, RecursionError):
            return None

    def problem(self) -> str:
        """Return why it cannot be begun, in one sentence; empty when it can."""
        if not self.source:
            return _("Choose a folder of cases or a table (CSV) first.")
        if not self.out:
            return _("Choose an output folder first.")
        if not Path(self.source).exists():
            return _("{source} is no longer there; choose the cases again.").format(source=self.source)
        return self._problem_of_output(Path(self.source), Path(self.out)) or self.choices.problem()

    def _problem_of_output(self, source: Path, out: Path) -> str:
        if source.resolve() == out.resolve():
            return _("The output folder is the folder of the cases; choose another one.")
        if out.exists() and not out.is_dir():
            return _("{out} is a file; choose a folder for the output.").format(out=out)
        if out.is_dir() and not (out / DOCUMENT).is_file() and any(out.iterdir()):
            return _(
                "{name} holds other files; choose an empty folder, or the folder of a batch that is to go on."
            ).format(name=out.name)
        return ""

    def options(self) -> dict[str, object]:
        """Return the options of ``agg2exp cohort``."""
        return self.choices.options() | {"workers": self.workers}

    def write(self) -> None:
        """Put it into the cohort folder, once that has its document; a folder that cannot be written is told by the child."""
        if (Path(self.out) / DOCUMENT).is_file():
            try:
                write_file(Path(self.out) / REQUEST_FILE, (self.to_text() + "\n").encode())
            except OutputError:
                return


@dataclass(frozen=True)
class CaseState:
    """One case: done, failed or waiting, and why it failed."""

    case: str
    state: str
    reason: str = ""
    image: str = ""


@dataclass(frozen=True)
class Seen:
    """What a cohort folder holds.

    Attributes
    ----------
    cases : tuple of CaseState
        In the folder's order; none when it is no cohort folder yet.
    request : Request, optional
        What the panel was asked for when it made the folder.
    """

    cases: tuple[CaseState, ...] = ()
    request: Request | None = None

    def count(self, state: str) -> int:
        """Return how many cases are in a state."""
        return sum(one.state == state for one in self.cases)

    def listed(self, most: int) -> list[CaseState]:
        """Return the cases that are worth a line: failed ones first, then the others in order."""
        return sorted(self.cases, key=lambda one: one.state != FAILED)[:most]


def look(folder: str | Path, before: Seen | None = None) -> Seen:
    """Return what a cohort folder holds now; what was finished before is not looked for again.

    Raises
    ------
    InputError
        The folder's document is damaged or of a newer version.
    """
    store = CohortFolder(folder)
    if not (store.folder / DOCUMENT).is_file():
        return Seen()
    known: Mapping[str, CaseState] = {one.case: one for one in before.cases if one.state == DONE} if before else {}
    cases = []
    for values in store.document()["cases"]:
        case = CohortCase.from_dict(values)
        if case.id in known:
            cases.append(known[case.id])
            continue
        reason = None if store.has(case.id) else store.failure(case.id)
        state = DONE if store.has(case.id) else WAITING if reason is None else FAILED
        cases.append(CaseState(case.id, state, reason or "", str(case.image)))
    return Seen(tuple(cases), _request_in(store.folder))


def kept_explanation(folder: str | Path, case: str) -> Path | None:
    """Return the Explanation folder of a case, ``None`` when it was not kept."""
    found = CohortFolder(folder).explanations / file_stem(case)
    return found if (found / "explanation.json").is_file() else None


def _request_in(folder: Path) -> Request | None:
    path = folder / REQUEST_FILE
    try:
        if path.stat().st_size > _LARGEST_REQUEST:
            return None
        found = Request.from_text(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    # The folder may have been moved since.
    return None if found is None else Request(found.source, str(folder), found.choices, found.keep, found.workers)


def describe_progress(done: int, total: int, failed: int, left: float | None) -> str:
    """Return how far a batch is.

    Examples
    --------
    >>> describe_progress(6, 60, 3, 2530.0)
    'case 7 of 60, 3 failed, 0:42:10 left'
    """
    parts = [_("case {number} of {total}").format(number=min(done + 1, total), total=total)]
    if failed:
        parts.append(f"{failed} failed")
    if left is not None:
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(
            _("{hours}:{minutes:02d}:{seconds:02d} left").format(hours=hours, minutes=minutes, seconds=seconds)
        )
    return ", ".join(parts)


def _choices_of(found: object) -> Choices:
    """Return the choices that a file names; what it says wrongly is left at its default."""
    if not isinstance(found, dict):
        return Choices()
    kept: dict[str, Any] = {}
    method = str(found.get("method", ""))
    for name, usual in asdict(Choices()).items():
        value = found.get(name, usual)
        if name == "structures":
            value = tuple(str(one) for one in value) if isinstance(value, list) else None
        elif name == "more":
            pairs = [one for one in value if isinstance(one, list) and len(one) == 2] if isinstance(value, list) else []
            value = tuple(sorted(given(options_of(method), {str(key): part for key, part in pairs}).items()))
        elif name == "overlap" and not isinstance(value, int | float):
            value = None
        if usual is None or isinstance(value, type(usual)):
            kept[name] = value
    return Choices(**kept)
