"""The series of a DICOM folder, and which one is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from Agg2ExpLib.volume.dicom.headers import DicomFile, Plane, is_dicom, quiet_pydicom, read_header
from Agg2ExpLib.volume.headers import refuse

_MOST_TOLD = 10
# What ordinarily lies beside slices: texts, previews, and volumes or masks in other formats.
_COMPANIONS = (
    *(".txt", ".json", ".xml", ".csv", ".tsv", ".md", ".htm", ".html", ".pdf", ".log", ".ini", ".inf", ".db"),
    *(".png", ".jpg", ".jpeg", ".gif", ".bmp", ".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"),
)


@dataclass(frozen=True)
class Series:
    """The files of one series that hold slices, and a sentence about the others when it was taken by default."""

    files: tuple[DicomFile, ...]
    others: str = ""

    @property
    def uid(self) -> str:
        """SeriesInstanceUID."""
        return self.files[0].series

    @property
    def slices(self) -> int:
        """Number of slices of all files."""
        return sum(len(file.planes) for file in self.files)

    @property
    def told(self) -> str:
        """Number, description and slices, for a sentence."""
        first = self.files[0]
        parts = [part for part in (first.description, first.modality, f"{self.slices} slices") if part]
        return f"{first.number or self.uid} ({', '.join(parts)})"

    def rank(self) -> tuple[bool, bool, int]:
        """What is better to read: a scanner's picture, a CT, more slices of one size and direction."""
        grids = Counter(
            (plane.size, None if plane.axes is None else tuple(plane.axes.round(2).ravel()))
            for file in self.files
            for plane in file.planes
        )
        first = self.files[0]
        return not first.secondary, first.modality == "CT", max(grids.values())


def files_of(path: Path) -> list[Path]:
    """Return the DICOM files of a folder, without the index that a disc has; or the file itself."""
    if not path.is_dir():
        return [path]
    return [child for child in _listed(path) if is_dicom(child)]


def _listed(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_file() and child.name.upper() != "DICOMDIR")


def chosen_series(path: Path, wanted: str | int | None, notes: list[str]) -> Series:
    """Return the series to read from a folder (or of one multi-frame file).

    Parameters
    ----------
    path : Path
        Folder or file.
    wanted : str or int, optional
        SeriesInstanceUID or series number; what follows a colon is for :func:`one_part`.
    notes : list of str
        Sentences are added about what was left out.

    Raises
    ------
    InputError
        No slices there, no such series, or several of that number.
    """
    files = files_of(path)
    with quiet_pydicom():
        found = [(file, read_header(file)) for file in files]
    headers = [header for _, header in found if header is not None]
    unread = [file.name for file, header in found if header is None]
    strange = _strange(path, files)
    _tell_unread(unread, "DICOM file", "could not be read as images", notes)
    _tell_unread(strange, "file", "could not be read as DICOM", notes)
    groups: dict[str, list[DicomFile]] = {}
    for header in headers:
        if header.planes:
            groups.setdefault(header.series, []).append(header)
    derived = [file for uid in groups for file in _take_derived(groups[uid])]
    _tell_beside([*(header for header in headers if header.kind), *derived], notes)
    # The lower number first, so that the choice between equals does not depend on file names.
    series = sorted((Series(tuple(files)) for files in groups.values()), key=lambda one: (_number(one), one.uid))
    if not series:
        _refuse_none(path, headers, [*unread, *strange])
    name = str(wanted if wanted is not None else "").partition(":")[0].strip()
    if name:
        return _asked(path, series, name)
    best = max(series, key=Series.rank)
    others = [one.told for one in series if one is not best]
    if others:
        told = (
            f"the folder holds {len(others)} other series: {_shortened(others)}; {best.told} was taken, and --series "
            "takes another"
        )
        notes.append(f"{told[0].upper()}{told[1:]}.")
        return replace(best, others=told)
    return best


def one_part(path: Path, series: Series, wanted: str | int | None) -> tuple[Series, str]:
    """Return the slices of one stack and time point, and how that one is called where there are several.

    Raises
    ------
    InputError
        There are several and none is chosen after a colon, such as ``3:2``, or there is no such one.
    """
    part = str(wanted if wanted is not None else "").partition(":")[2].strip()
    planes = [plane for file in series.files for plane in file.planes]
    words = [
        name
        for name, kind in (("stack", "stack"), ("time point", "time"))
        if len({getattr(one, kind) for one in planes}) > 1
    ]

    def called(plane: Plane) -> str:
        told = (plane.stack if "stack" in words else "", plane.time if "time point" in words else "")
        return ".".join(one for one in told if one) or "unnamed"

    counts = Counter(map(called, planes))
    told = ", ".join(f"{name} with {count} slices" for name, count in sorted(counts.items()))
    what = f"the slices belong to {len(counts)} {' and '.join(f'{word}s' for word in words)} ({told})"
    if part and not words:
        refuse(path, f"the series has no parts to choose {part!r} from", "leave away the colon and what follows it")
    if words and part not in counts:
        cause = what if not part else f"there is no part {part!r}: {what}"
        refuse(path, cause, f"choose one, as with --series :{min(counts)}, or export one of them as a volume")
    if not words:
        return series, ""
    kept = ((file, tuple(plane for plane in file.planes if called(plane) == part)) for file in series.files)
    return Series(tuple(replace(file, planes=some) for file, some in kept if some)), part


def _asked(path: Path, series: list[Series], wanted: str) -> Series:
    number = int(wanted) if wanted.isdecimal() else -1
    fit = [one for one in series if wanted in (one.uid, one.files[0].number) or _number(one) == number]
    if len(fit) == 1:
        return fit[0]
    if fit:
        uids = ", ".join(f"{one.told} {one.uid}" for one in fit)
        refuse(path, f"{len(fit)} series have the number {wanted}: {uids}", "choose one by its UID")
    told = _shortened([one.told for one in series])
    refuse(path, f"there is no series {wanted}", f"there are {told}; choose one of them by number or UID")


def _refuse_none(path: Path, headers: list[DicomFile], unread: list[str]) -> None:
    told = f"{_shortened(unread)} cannot be read as DICOM" if unread and path.is_dir() else ""
    if headers:
        beside = _counted([header for header in headers if header.kind])
        cause = f"there is no scan in it, only {beside}" if beside else "its pictures have no slices of a scan"
        refuse(path, f"{cause}, and {told}" if told else cause, "give the folder of the scan's slices")
    if told:
        refuse(path, f"the folder holds no slice that can be read: {told}", "unpack the files, or copy them again")
    inner = path.is_dir() and any(child.is_dir() for child in path.iterdir())
    step = "give the folder inside it" if inner else "give a folder of DICOM slices"
    refuse(path, "the folder holds no DICOM series" if path.is_dir() else "the file is not readable DICOM", step)


def _strange(path: Path, files: list[Path]) -> list[str]:
    """Names of what is neither DICOM nor an ordinary companion: an empty or packed slice would be missed unseen."""
    if not path.is_dir():
        return []
    known = set(files)
    others = (child.name for child in _listed(path) if child not in known)
    return [name for name in others if not name.startswith(".") and not name.lower().endswith(_COMPANIONS)]


def _tell_unread(names: list[str], noun: str, what: str, notes: list[str]) -> None:
    """Say which files could not be read: a damaged first slice would shorten the scan unseen."""
    if names:
        plural = "s" if len(names) > 1 else ""
        notes.append(
            f"{len(names)} {noun}{plural} of the folder {what}, such as {_shortened(names[:3])}; slices may be missing."
        )


def _take_derived(files: list[DicomFile]) -> list[DicomFile]:
    """Take the few derived pictures out of a series of original slices; return them as something that lies beside."""
    slices = Counter[str]()
    for file in files:
        slices[file.origin] += len(file.planes)
    if slices["derived"] >= slices["original"]:
        return []
    taken = [file for file in files if file.origin == "derived"]
    files[:] = [file for file in files if file.origin != "derived"]
    return [replace(file, kind="derived picture", kinds="derived pictures") for file in taken]


def _tell_beside(files: list[DicomFile], notes: list[str]) -> None:
    if files:
        verb = "was" if len(files) == 1 else "were"
        notes.append(f"{_counted(files)} in the folder {verb} left out.")


def _counted(files: list[DicomFile]) -> str:
    counts = Counter((file.kind, file.kinds) for file in files)
    first = {file.kind: file.path.name for file in reversed(files)}
    return ", ".join(
        f"{count} {one if count == 1 else many} ({first[one]}{', ...' if count > 1 else ''})"
        for (one, many), count in counts.items()
    )


def _shortened(items: list[str]) -> str:
    more = len(items) - _MOST_TOLD
    return ", ".join(items[:_MOST_TOLD]) + (f" and {more} more" if more > 0 else "")


def _number(series: Series) -> int:
    number = series.files[0].number
    return int(number) if number.isdecimal() else 1 << 31
