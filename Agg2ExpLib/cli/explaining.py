"""Commands for one case: explain, show, estimate, whatif, needs, respond, interactions."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from typing import Any

from Agg2ExpLib.case import REDUCTIONS
from Agg2ExpLib.cli.common import (
    add_region_options,
    add_request,
    class_list,
    command,
    images_of,
    model_of,
    print_result,
    progress_of,
    quiet_libraries,
    regions_of,
    request_of_options,
)
from Agg2ExpLib.cli.screen import say


def add(commands: Any) -> None:
    """Add these commands."""
    _add_explain(commands)
    _add_run(commands)
    _add_show(commands)
    _add_estimate(commands)
    _add_whatif(commands)
    _add_respond(commands)
    _add_needs(commands)
    _add_interactions(commands)


def _add_explain(commands: Any) -> None:
    parser = command(commands, "explain", _explain, "explain the segmentation of one CT")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; must not exist")
    parser.add_argument("--overwrite", action="store_true", help="replace an Explanation folder at --out")
    parser.add_argument("--resume", action="store_true", help="keep finished classes when stopped, and go on from them")
    parser.add_argument(
        "--largest",
        type=int,
        metavar="N",
        help="explain only the N largest that are found of the classes, for a quick look",
    )
    add_region_options(parser)
    parser.add_argument("--truth", metavar="FILE", help="true label map, for values of kernelshap that compare with it")
    parser.add_argument(
        "--prediction",
        metavar="FILE",
        help="label map of this scan that the model's makers wrote: what is explained, in place of the model's decision here",
    )
    add_request(parser)


def _explain(options: argparse.Namespace) -> None:
    from Agg2ExpLib.explanation import explain
    from Agg2ExpLib.explanation.inputs import Copied

    request = replace(request_of_options(options), largest=options.largest)
    # Of a scan that the panel hands over, perhaps as a copy.
    origin = getattr(options, "scan", None)
    progress = progress_of(options)
    quiet_libraries()
    model = model_of(options)
    images = images_of(options, model)
    explanation = explain(
        Copied(images, asdict(origin), [asdict(one) for one in options.other_scans]) if origin else images,
        model,
        options.out,
        request,
        regions=regions_of(options.roi, options.rois),
        truth=options.truth,
        prediction=options.prediction,
        overwrite=options.overwrite,
        resume=options.resume,
        progress=progress,
    )
    if options.progress != "json":
        print_result(explanation)


def _add_run(commands: Any) -> None:
    parser = command(commands, "run", _run, "repeat an explanation of its own explanation.json, or of a request file")
    parser.add_argument("file", metavar="FILE", help="explanation.json, the folder that holds it, or a request file")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; must not exist")
    parser.add_argument("--overwrite", action="store_true", help="replace an Explanation folder at --out")
    parser.add_argument("--model", metavar="M", help="where the model is now, if it was moved")
    parser.add_argument("--device", help="another device than then: auto, cpu or cuda:N")
    parser.add_argument(
        "--changed", action="store_true", help="go on although scan, model or a region has changed since"
    )


def _run(options: argparse.Namespace) -> None:
    from Agg2ExpLib.repeating import read_repeat

    progress = progress_of(options)
    quiet_libraries()
    asked = read_repeat(options.file, model=options.model, device=options.device)
    found = asked.run(options.out, changed=options.changed, overwrite=options.overwrite, progress=progress)
    if options.progress != "json":
        print_result(found)


def _add_show(commands: Any) -> None:
    parser = command(commands, "show", _show, "print the importance table of an Explanation folder")
    parser.add_argument("folder", metavar="DIR")


def _show(options: argparse.Namespace) -> None:
    from Agg2ExpLib.explanation import Explanation

    print_result(Explanation.load(options.folder))


def _add_estimate(commands: Any) -> None:
    parser = command(commands, "estimate", _estimate, "say what explaining a CT would cost, without doing it")
    add_request(parser)


def _estimate(options: argparse.Namespace) -> None:
    import json

    from Agg2ExpLib.estimate import describe_estimate, estimate

    request = request_of_options(options)
    quiet_libraries()
    model = model_of(options)
    found = estimate(images_of(options, model), model, request)
    say(json.dumps(found.to_dict()) if options.progress == "json" else describe_estimate(found))


def _add_whatif(commands: Any) -> None:
    parser = command(commands, "whatif", _whatif, "replace a region in the scan and predict again")
    parser.add_argument("folder", metavar="DIR", help="Explanation folder of the scan")
    parser.add_argument(
        "--roi", required=True, metavar="NAME[=FILE]", help="a class, a region of the explanation, or any mask file"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; must not exist")
    parser.add_argument("--fill", default="shell", help="air, shell (mean of what is around, default) or noise")
    _add_again(parser)


def _add_again(parser: argparse.ArgumentParser) -> None:
    """With what the scan is predicted again."""
    parser.add_argument("--model", metavar="M", help="where the explained model is now, if it was moved")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda:N")
    parser.add_argument("--seed", type=int, default=0, help="of everything random")


def _whatif(options: argparse.Namespace) -> None:
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.whatif import describe_whatif, whatif

    quiet_libraries()
    name, _, file = options.roi.partition("=")
    result = whatif(
        Explanation.load(options.folder),
        name.strip(),
        options.out,
        mask=file or None,
        fill=options.fill,
        model=options.model,
        device=options.device,
        seed=options.seed,
        progress=progress_of(options),
    )
    if options.progress != "json":
        say(describe_whatif(result))


def _add_respond(commands: Any) -> None:
    parser = command(commands, "respond", _respond, "say how every structure would answer a change of a region")
    parser.add_argument("folder", metavar="DIR", help="Explanation folder of the scan")
    parser.add_argument(
        "--roi", required=True, metavar="NAME[=FILE]", help="a class, a region of the explanation, or any mask file"
    )
    parser.add_argument("--change", default="brighter", help="brighter (by one network unit, default) or gone")
    parser.add_argument("--out", metavar="FILE", help="CSV file to write")
    parser.add_argument("--classes", metavar="A,B", help="classes to ask; default every structure")
    parser.add_argument("--reduction", default="mean", help=f"{', '.join(REDUCTIONS)} (default mean)")
    parser.add_argument("--model", metavar="M", help="where the explained model is now, if it was moved")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda:N")


def _respond(options: argparse.Namespace) -> None:
    from Agg2ExpLib.device import Compute
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.respond import describe_response, respond, write_response
    from Agg2ExpLib.whatif import case_of, region_of

    quiet_libraries()
    explanation = Explanation.load(options.folder)
    name, _, file = options.roi.partition("=")
    inside = region_of(explanation, name.strip(), file or None, explanation.model_prediction())
    case = case_of(explanation, options.model, Compute(device=options.device), progress_of(options))
    found = respond(case, inside, options.change, class_list(options.classes), options.reduction)
    if options.out:
        write_response(found, options.out)
    if options.progress != "json":
        say(describe_response(found))


def _add_needs(commands: Any) -> None:
    text = "say how much of the scan around a structure the model needs to find it"
    parser = command(commands, "needs", _needs, text)
    parser.add_argument("folder", metavar="DIR", help="Explanation folder of the scan")
    parser.add_argument("--class", required=True, dest="name", metavar="NAME", help="the structure")
    parser.add_argument(
        "--fill", default="air", help="what everything farther away becomes: air (default), shell or noise"
    )
    _add_again(parser)


def _needs(options: argparse.Namespace) -> None:
    import json

    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.needs import describe_needs, needs

    quiet_libraries()
    found = needs(
        Explanation.load(options.folder),
        options.name,
        fill=options.fill,
        model=options.model,
        device=options.device,
        seed=options.seed,
        progress=progress_of(options),
    )
    say(json.dumps(found.to_dict()) if options.progress == "json" else describe_needs(found))


def _add_interactions(commands: Any) -> None:
    parser = command(
        commands, "interactions", _interactions, "say which structures act together on a structure's prediction"
    )
    parser.add_argument("folder", metavar="DIR", help="Explanation folder of the scan")
    parser.add_argument("--class", required=True, dest="name", metavar="NAME", help="the structure")
    parser.add_argument("--out", metavar="FILE", help="CSV file to write, such as interactions.csv")
    parser.add_argument("--samples", type=int, default=1024, help="coalitions of the whole scan at most (default 1024)")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.05,
        help="standard error asked for, a share of the largest value (default 0.05)",
    )
    _add_again(parser)


def _interactions(options: argparse.Namespace) -> None:
    from Agg2ExpLib.device import Compute
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.interactions import describe_interactions, interactions, write_interactions
    from Agg2ExpLib.methods import KernelSHAP
    from Agg2ExpLib.whatif import case_of

    quiet_libraries()
    method = KernelSHAP(samples=options.samples, tolerance=options.tolerance, seed=options.seed)
    case = case_of(
        Explanation.load(options.folder), options.model, Compute(device=options.device), progress_of(options)
    )
    found = interactions(case, options.name, method)
    if options.out:
        write_interactions(found, options.out)
    if options.progress != "json":
        say(describe_interactions(found))
