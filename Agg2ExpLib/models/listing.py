"""Which models there are, what one is, and adding or removing one. Listing needs no torch."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.card import ModelCard, make_card, read_card
from Agg2ExpLib.models.download import fetch_model, remote_files
from Agg2ExpLib.models.library import CARD_FIELDS, Entry, Library, check_name, content_sha256, content_size
from Agg2ExpLib.models.loading import bundled_models, load_model
from Agg2ExpLib.models.registry import formats
from Agg2ExpLib.progress import Progress

if TYPE_CHECKING:
    from Agg2ExpLib.models.interface import Model

_SHOWN = 12


def list_models() -> list[dict[str, Any]]:
    """Return what can be given to ``--model`` by name.

    Returns
    -------
    list of dict
        ``name``, ``kind`` ("bundled", "added", "totalsegmentator"), ``path``, ``about`` (a few words), ``missing`` (what is not
        there; empty when it can be used), ``sha256``, ``size``, ``licence``, ``source``.
    """
    from Agg2ExpLib.models.formats.totalsegmentator import TASKS, installed, weights_folder

    found: list[dict[str, Any]] = []
    for name, folder in bundled_models().items():
        card = read_card(folder)
        found.append(
            {"name": name, "kind": "bundled", "path": str(folder), "about": _about(card), "licence": card.licence}
        )
    for entry in Library().models().values():
        there = Path(entry.path).exists() or entry.path.partition(":")[0] in formats()
        found.append(
            {
                "name": entry.name,
                "kind": "added",
                "path": entry.path,
                "about": _about(make_card(entry.card, entry.name)) if entry.card else "",
                "missing": "" if there else f"{entry.path} is no longer there",
                "sha256": entry.sha256,
                "size": entry.size,
                "licence": entry.licence,
                "source": entry.source,
            }
        )
    for task, numbers in installed().items():
        count = sum(len(labels) for _, labels in TASKS[task].parts)
        found.append(
            {
                "name": f"totalsegmentator:{task}",
                "kind": "totalsegmentator",
                "path": str(weights_folder()),
                "about": f"{count} structures, {TASKS[task].spacing:g} mm",
                "missing": f"weights of Dataset {', '.join(map(str, numbers))}" if numbers else "",
            }
        )
    empty = {"missing": "", "sha256": "", "size": 0, "source": "", "licence": ""}
    return [{**empty, **one} for one in found]


def describe_models(found: list[dict[str, Any]]) -> str:
    """Return a list of models for people."""
    titles = {
        "bundled": "Bundled",
        "added": "Added",
        "totalsegmentator": "TotalSegmentator (totalseg_download_weights fetches what is missing)",
    }
    lines = []
    for kind, title in titles.items():
        mine = [one for one in found if one["kind"] == kind]
        lines += [title] if mine else []
        for one in mine:
            about = [
                one["about"],
                f"{one['size'] / 1e6:.1f} MB" if one["size"] else "",
                f"sha256 {one['sha256'][:12]}" if one["sha256"] else "",
                one["licence"].partition("\n")[0][:60] if kind == "added" else "",
                f"from {one['source']}" if one["source"] else "",
                f"missing: {one['missing']}" if one["missing"] else "",
            ]
            lines.append(f"  {one['name']}: {'; '.join(part for part in about if part)}")
            lines += [f"    {one['path']}"] if kind != "totalsegmentator" else []
    return "\n".join(lines)


def describe_model(model: Model) -> str:
    """Return what a model is and expects, for people."""
    card = model.card
    names = [structure(label).name for label in card.labels[1:]]
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    window = " x ".join(map(str, card.window)) if card.window else "the whole scan"
    spacing = " x ".join(f"{step:g}" for step in card.spacing) + " mm" if card.spacing else "the scan's own"
    lines = [
        f"{card.name}, version {card.version}",
        f"  structures: {len(names)} ({shown})",
        f"  scans: {', '.join(card.channels)}; spacing {spacing}; window {window}",
        *(
            [f"  intensities: {card.intensity_range[0]:g} to {card.intensity_range[1]:g}"]
            if card.intensity_range
            else []
        ),
        *([f"  networks: {len(model.parts)}"] if len(model.parts) > 1 else []),
        *sorted({f"  gradients: none ({part.no_gradient})" for part in model.parts if part.no_gradient}),
        f"  licence: {card.licence.partition(chr(10))[0][:120] or 'not stated'}",
        f"  sha256: {model.sha256}",
        f"  from: {model.source}",
        *(f"  assumed: {line}" for line in card.assumptions),
    ]
    return "\n".join(lines)


def add_model(
    source: str, name: str = "", *, sha256: str = "", progress: Progress | None = None, **options: Any
) -> Entry:
    """Give a model a name; it is loaded once, so that one that cannot be used is refused now.

    Parameters
    ----------
    source : str
        File, folder, a name that a format understands, or what :func:`Agg2ExpLib.models.download.remote_files` takes.
    name : str
        By default that of the file or folder.
    sha256 : str
        What the file must have; empty when it is not known.
    progress : Progress
        Of the download.
    **options
        What the model does not say itself; see :func:`Agg2ExpLib.models.load_model`. They are remembered.

    Raises
    ------
    InputError
        It cannot be found, fetched or used.
    """
    library = Library()
    local = Path(source).exists() or source.partition(":")[0] in formats()
    called = name or (Path(source).resolve().stem if Path(source).is_file() else Path(source.rstrip("/")).name)
    if called in bundled_models():
        raise InputError(f"a bundled model is called {called}; give another name with --name")
    check_name(called)
    if sha256 and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise InputError(f"--sha256 {sha256[:80]!r} must be 64 hexadecimal digits")
    path, origin = source, ""
    _check_free(library.models().get(called), source, local)
    if not local:
        files, folder = remote_files(source, sha256), library.folder / "models" / called
        if called not in library.models() and not all(one.check for one in files):
            # Left from a try that failed, perhaps of another address: nothing tells whether it is the same file.
            shutil.rmtree(folder, ignore_errors=True)
        path, origin = str(fetch_model(files, folder, progress)), source
    place = Path(path)
    digest = content_sha256(place.resolve()) if place.exists() else ""
    if local and sha256 and digest != sha256.lower():
        raise InputError(
            f"{source}: has the sha256 {digest[:12]}, not {sha256[:12]}; it is another file, or is damaged"
        )
    given = {key: value for key, value in options.items() if value is not None and value is not False}
    model = load_model(path, **given)
    kept = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
    entry = Entry(
        called,
        str(place.resolve()) if place.exists() else path,
        digest or model.sha256,
        content_size(place) if place.exists() else 0,
        model.card.licence[:200],
        origin,
        kept,
        {**{key: getattr(model.card, key) for key in CARD_FIELDS}, "extra": {"assumed": list(model.card.assumptions)}},
        model.sha256,
    )
    library.add(entry)
    return entry


def _check_free(known: Entry | None, source: str, local: bool) -> None:
    """Refuse a name that is another model's."""
    if known is None:
        return
    place = Path(known.path)
    same = place == Path(source).resolve() or not place.exists() if local else known.source == source
    if not same:
        raise InputError(
            f"{known.name} is the name of another model ({known.source or known.path}); give this one another with --name, or "
            f"remove that one first: agg2exp model remove {known.name}"
        )


def remove_model(name: str) -> Entry:
    """Forget a model; what was downloaded for it is deleted, other files stay.

    Raises
    ------
    InputError
        None is called so.
    """
    library = Library()
    entry = library.remove(name)
    fetched = library.folder / "models" / name
    if entry.source and Path(entry.path).is_relative_to(fetched.resolve()):
        shutil.rmtree(fetched, ignore_errors=True)
    return entry


def card_of(source: str) -> ModelCard | None:
    """Return the card of a model by its name or folder, without loading it; ``None`` where only loading it tells."""
    try:
        entry = Library().models().get(source)
        if entry is not None and entry.card:
            return make_card(entry.card, source)
        folder = bundled_models().get(source, Path(source))
        return read_card(folder) if folder.is_dir() else None
    except InputError:
        return None


def _about(card: ModelCard) -> str:
    spacing = f"{' x '.join(f'{step:g}' for step in card.spacing)} mm" if card.spacing else "the scan's own spacing"
    return f"{len(card.labels) - 1} structures, {spacing}"
