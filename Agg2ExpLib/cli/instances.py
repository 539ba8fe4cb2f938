"""The command that explains a class's instances: instances."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from Agg2ExpLib.case.instances import MIN_VOLUME_ML, MOST, RIM_MM
from Agg2ExpLib.cli.common import (
    add_card_options,
    add_request,
    class_list,
    command,
    images_of,
    model_of,
    progress_of,
    quiet_libraries,
    request_of_options,
)
from Agg2ExpLib.cli.screen import say
from Agg2ExpLib.demo import DEMO_MODEL
from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.methods import METHODS, Method, method_of
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.request import Request


def add(commands: Any) -> None:
    """Add this command."""
    text = "explain each connected component of a class, such as each lesion, and say which is unlike the others"
    parser = command(commands, "instances", _instances, text)
    add_request(parser)
    parser.add_argument(
        "--out", metavar="DIR", help="folder to write: instances.csv, .json and .nii.gz; must not exist"
    )
    parser.add_argument(
        "--rim", type=float, default=RIM_MM, metavar="MM", help=f"thickness of the rim around each (default {RIM_MM:g})"
    )
    parser.add_argument(
        "--min-volume",
        type=float,
        default=MIN_VOLUME_ML,
        metavar="ML",
        help=f"leave out smaller ones (default {MIN_VOLUME_ML})",
    )
    parser.add_argument(
        "--most", type=int, default=MOST, metavar="N", help=f"of each class the N largest (default {MOST})"
    )
    # Of an Explanation folder, what is not said is as it was explained.
    parser.set_defaults(model=None, method=None, reduction=None, device=None, precision=None)


def _instances(options: argparse.Namespace) -> None:
    import json

    from Agg2ExpLib.instances import describe_instances, explain_instances

    progress = progress_of(options)
    if options.out and Path(options.out).exists():
        raise OutputError(f"{options.out} exists already; give another --out")
    quiet_libraries()
    case, request, about = _asked(options, progress)
    found = explain_instances(case, request, rim_mm=options.rim, min_volume_ml=options.min_volume, most=options.most)
    if options.out:
        found.write(options.out, about)
    say(json.dumps(found.to_dict()) if options.progress == "json" else describe_instances(found))


def _asked(options: argparse.Namespace, progress: Progress) -> tuple[Any, Request, dict[str, Any]]:
    """Return the case and the request of a scan, or of an Explanation folder, as it was explained where nothing else is said."""
    from Agg2ExpLib.case import Case
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.explanation.folder import DOCUMENT
    from Agg2ExpLib.instances import about_of
    from Agg2ExpLib.repeating import request_told
    from Agg2ExpLib.whatif import case_of

    folder = Path(options.image[0])
    if len(options.image) > 1 or not (folder / DOCUMENT).is_file():
        usual = {
            "model": DEMO_MODEL,
            "method": "smoothgrad",
            "reduction": "sum",
            "device": "auto",
            "precision": "float32",
        }
        vars(options).update({name: value for name, value in usual.items() if getattr(options, name) is None})
        request, model = request_of_options(options), model_of(options)
        case = Case.open(images_of(options, model), model, compute=request.compute, progress=progress)
        return case, request, about_of(case, request)
    explanation = Explanation.load(folder)
    told = request_told(explanation.document, folder / DOCUMENT)
    card = argparse.ArgumentParser()
    add_card_options(card)
    for name in ("preset", "reduction", "precision", "series", *vars(card.parse_args([]))):
        if getattr(options, name) not in (None, False):
            raise InputError(f"--{name.replace('_', '-')} is as {folder} was explained; leave it out, or give the scan")
    again = options.recompute or told.compute.recompute
    compute = replace(told.compute, device=options.device or "auto", batch_size=options.batch_size, recompute=again)
    classes = class_list(options.classes) or explanation.explained
    request = replace(told, method=_method(options, told.method), classes=classes, compute=compute, largest=None)
    case = case_of(explanation, options.model, compute, progress)
    about = about_of(case, request) | {"image": explanation.document["image"]}
    return case, request, about


def _method(options: argparse.Namespace, told: Method) -> Method:
    """The method that an explanation was made with, with what the options say in its place."""
    given = {name: getattr(options, name) for name in {one.name for each in METHODS.values() for one in each.options()}}
    kept = told.to_dict()
    identifier = options.method or kept["id"]
    kept = kept if identifier == kept.pop("id") else {}
    return method_of(identifier, **(kept | {name: value for name, value in given.items() if value is not None}))
