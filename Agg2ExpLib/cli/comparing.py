"""Commands that judge methods and networks: compare-methods, compare-models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from Agg2ExpLib.cli.common import (
    add_model_options,
    class_list,
    command,
    goes_on,
    model_of,
    progress_of,
    quiet_libraries,
)
from Agg2ExpLib.cli.screen import say
from Agg2ExpLib.errors import InputError


def add(commands: Any) -> None:
    """Add these commands."""
    _add_compare_methods(commands)
    text = "compare networks on the same cases, explained into one cohort each (Table 3)"
    parser = command(commands, "compare-models", _compare_models, text)
    parser.add_argument(
        "cohorts", nargs="+", metavar="[NAME=]COHORT", help="cohort folders of the same cases, one a network"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for models.md, models.csv and pictures")


def _add_compare_methods(commands: Any) -> None:
    parser = command(
        commands,
        "compare-methods",
        _compare_methods,
        "measure the quality of attribution methods on your model and cases",
    )
    goes_on(parser)
    parser.add_argument("cases", nargs="+", metavar="CASE", help="CT files, DICOM folders, or folders of cases")
    add_model_options(parser)
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder of the results; a stopped comparison in it goes on"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a comparison with other settings at --out")
    parser.add_argument("--wait", action="store_true", help="wait for another run at --out rather than be refused")
    parser.add_argument(
        "--methods",
        metavar="A,B",
        help="METHOD[:SUPERVOXELS][=SAMPLES] each (default: the paper's five, gradient, smoothgrad, "
        "integrated-gradients, kernelshap:semantic, kernelshap:cubes)",
    )
    parser.add_argument(
        "--classes", metavar="A,B", help="default: the paper's seven where the model has them, else all"
    )
    parser.add_argument("--subsets", type=int, metavar="N", help="random voxel subsets of faithfulness (default 100)")
    parser.add_argument("--subset-voxels", type=int, metavar="N", help="voxels in each (default 50176)")
    parser.add_argument(
        "--mask", help="of faithfulness: fixed (default), or own: each copy's own prediction, the published rule"
    )
    parser.add_argument("--copies", type=int, metavar="N", help="noisy copies of sensitivity (default 3)")
    parser.add_argument(
        "--noise-bound", type=float, metavar="B", help="bound of their noise, scan 0 to 1 (default 0.1)"
    )
    parser.add_argument("--no-randomisation", action="store_true", help="leave out the check with random weights")
    parser.add_argument("--supervoxel-count", type=int, metavar="N", help="about how many regular ones (default 512)")
    parser.add_argument(
        "--supervoxels",
        metavar="FILE",
        help="your supervoxels, for kernelshap:map and occlusion:map: a label volume, or the name of one beside each scan",
    )
    parser.add_argument("--scope", help="of kernelshap: window (default) or scan")
    parser.add_argument("--estimator", help="of kernelshap: regression (default), shap or captum")
    parser.add_argument("--device", help="auto (default), cpu or cuda:N")
    parser.add_argument("--precision", help="float32 (default), float64, bfloat16, float16 (GPU)")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="windows per network pass (default: chosen by the device)"
    )
    parser.add_argument("--seed", type=int, help="of everything random (default 0)")


def _compare_methods(options: argparse.Namespace) -> None:
    from Agg2ExpLib.comparison import Plan
    from Agg2ExpLib.comparison.plan import find_scans
    from Agg2ExpLib.comparison.report import describe

    names = (
        "subsets",
        "subset_voxels",
        "mask",
        "copies",
        "noise_bound",
        "supervoxel_count",
        "scope",
        "estimator",
        "device",
        "precision",
        "batch_size",
        "seed",
    )
    given: dict[str, Any] = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.supervoxels is not None:
        given["supervoxel_map"] = options.supervoxels
    methods = class_list(options.methods)
    if methods is not None:
        given["methods"] = methods
    plan = Plan(classes=class_list(options.classes), randomised=not options.no_randomisation, **given)
    scans = find_scans(options.cases)
    progress = progress_of(options)
    quiet_libraries()
    from Agg2ExpLib.comparison import compare_methods

    found = compare_methods(
        dict(scans),
        model_of(options),
        options.out,
        plan,
        overwrite=options.overwrite,
        wait=options.wait,
        progress=progress,
    )
    if options.progress != "json":
        say(describe(found, plan))


def _compare_models(options: argparse.Namespace) -> None:
    from Agg2ExpLib.cli.cohorts import table_of
    from Agg2ExpLib.cohort.judge.networks import MEASURES, compare_models, means_of
    from Agg2ExpLib.cohort.report.pictures import group_means
    from Agg2ExpLib.figures import write_figure
    from Agg2ExpLib.figures.writing import make_folder
    from Agg2ExpLib.storage import write_file

    tables = {}
    for given in options.cohorts:
        name, equals, folder = given.partition("=")
        table = table_of(folder if equals else given)
        named = name if equals else str(table.identity["model"].get("name"))
        if named in tables:
            raise InputError(f"two of the networks are called {named!r}; give each a name: NAME=COHORT")
        tables[named] = table
    found = compare_models(tables)
    out = Path(options.out)
    make_folder(out)
    write_file(out / "models.csv", found.to_csv().encode())
    write_file(out / "models.md", found.to_markdown().encode())
    for measure, words in MEASURES.items():
        names, means = means_of(found, measure)
        if names:
            axis = f"{words}, % (mean, 95 % confidence)"
            title = f"{found.cases} cases: {words}"
            write_figure(group_means(means, names, title, legend="network", axis=axis), out, f"models_{measure}")
    if options.progress != "json":
        say(f"{found.to_markdown()}\n{out}/\n  models.md, models.csv, models_<measure>.png and .svg")
