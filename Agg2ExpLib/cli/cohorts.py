"""Commands for many cases: cohort, cohort import, cohort report, profile fit, profile score."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from Agg2ExpLib.cli.common import (
    add_request,
    command,
    goes_on,
    model_of,
    numbers,
    progress_of,
    quiet_libraries,
    request_of_options,
)
from Agg2ExpLib.cli.screen import say
from Agg2ExpLib.errors import InputError


def add(commands: Any) -> None:
    """Add these commands."""
    _add_cohort(commands)
    _add_profile(commands)


def _add_cohort(commands: Any) -> None:
    text = "explain many cases into one table; stopped, it goes on where it was"
    parser = goes_on(command(commands, "cohort", _run, text))
    parser.add_argument(
        "cases", metavar="CASES", help="folder of cases, or .csv with id, image, truth, roi:NAME, metadata"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="cohort folder")
    add_request(parser, image=False)
    parser.add_argument("--keep", action="store_true", help="keep every Explanation folder (attribution volumes)")
    parser.add_argument("--retry-failed", action="store_true", help="try failed cases again")
    parser.add_argument("--wait", action="store_true", help="wait for another run at --out rather than be refused")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default one per GPU, else one per core")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler of a cluster, instead of --workers")

    parser = command(commands, "cohort import", _import, "make a cohort of a published per-case table")
    parser.add_argument("table", metavar="TABLE", help=".csv in the wide column layout of the paper's tables")
    parser.add_argument("--out", required=True, metavar="DIR", help="cohort folder")
    parser.add_argument(
        "--method", metavar="M", help="its attribution method (default: as the file name tells, ig or sg)"
    )

    parser = command(commands, "cohort report", _report, "write the report of a cohort: one HTML file")
    parser.add_argument("cohort", metavar="COHORT", help="cohort folder, of a run that is finished or not")
    parser.add_argument("--out", required=True, metavar="FILE", help=".html file")
    parser.add_argument("--profile", metavar="FILE", help="reference profile to score against")
    parser.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="COLUMN[:EDGES]",
        help="compare groups by a column such as sex, or bands of one such as age:50,65,80; repeatable",
    )
    parser.add_argument("--bad-dice", type=float, default=0.8, help="Dice under which a segmentation is bad (0.8)")
    parser.add_argument(
        "--methods", metavar="DIR", help="folder of compare-methods, whose table is shown too (Table 1)"
    )


def _run(options: argparse.Namespace) -> None:
    from Agg2ExpLib.cohort.run.cases import find_cohort
    from Agg2ExpLib.cohort.run.runner import run_cohort
    from Agg2ExpLib.cohort.run.work import Job
    from Agg2ExpLib.methods.games.supervoxels import OWN_MAP, supervoxel_kind

    quiet_libraries()
    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers is {options.workers}: it must be at least 1")
    # Workers elsewhere stand in other folders.
    for name in ("model", "labels", "supervoxels"):
        given = getattr(options, name)
        # A kind of supervoxels is no path, even where a folder of its name lies about.
        is_kind = name == "supervoxels" and given and supervoxel_kind(given) != OWN_MAP
        if given and not is_kind and Path(given).exists():
            setattr(options, name, str(Path(given).absolute()))
    job = Job(Path(options.out).absolute(), partial(model_of, options), request_of_options(options), options.keep)
    summary = run_cohort(
        find_cohort(options.cases),
        job,
        workers=options.workers,
        scheduler=options.scheduler,
        retry_failed=options.retry_failed,
        wait=options.wait,
        progress=progress_of(options),
    )
    try:
        if options.progress != "json":
            say(summary.describe())
    finally:
        if not summary.finished and summary.failed:
            raise InputError(
                f"none of {summary.failed} cases could be explained, the first because {summary.reasons[0][1]}; mend what can "
                "be mended and run the same command with --retry-failed"
            )


def _import(options: argparse.Namespace) -> None:
    from Agg2ExpLib.cohort.table.published import import_published

    found = import_published(options.table, options.out, options.method)
    if options.progress == "json":
        return
    lines = [
        f"{found.patients} patients imported into {options.out}; {found.absent} times a class is absent from a patient",
        f"method: {found.method}",
    ]
    if found.method.startswith("not told"):
        lines.append("  give --method, so that a profile of one method can be used for another table of the same")
    if not found.partition:
        lines.append("the regions do not fill the volume (their masses do not sum to 1): there is no enrichment")
    elif found.without_enrichment:
        lines.append(f"{found.without_enrichment} times the enrichment of a class cannot be told: a mean is missing")
    say("\n".join(lines))


def _report(options: argparse.Namespace) -> None:
    from Agg2ExpLib.cohort.judge.profile import Profile
    from Agg2ExpLib.cohort.report.html import write_report

    profile = Profile.load(options.profile) if options.profile else None
    path = write_report(
        table_of(options.cohort),
        options.out,
        profile=profile,
        groups=options.group,
        bad_dice=options.bad_dice,
        folder=options.cohort,
        methods=options.methods,
        progress=progress_of(options),
    )
    if options.progress != "json":
        say(f"report written to {path}, its pictures to {path.stem}_figures/")


def table_of(folder: str | Path) -> Any:
    """Read a cohort's tables; those of a run that was stopped are put together first."""
    from Agg2ExpLib.cohort.run.store import TABLES, CohortFolder
    from Agg2ExpLib.cohort.table.assemble import assemble
    from Agg2ExpLib.cohort.table.tables import CohortTable

    store = CohortFolder(folder)
    if store.parts.is_dir() and not all((store.folder / name).is_file() for name in TABLES):
        assemble(store)
    return CohortTable.read(folder)


def _add_profile(commands: Any) -> None:
    text = "learn what is usual in a cohort, and say how unusual a case is against it"
    parser: argparse.ArgumentParser = commands.add_parser("profile", help=text, description=text)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    fit = command(verbs, "fit", _fit, "fit a reference profile to a cohort")
    fit.add_argument("cohort", metavar="COHORT", help="cohort folder of reference cases")
    fit.add_argument("--out", required=True, metavar="FILE", help="profile to write, such as healthy.npz")
    fit.add_argument("--seed", type=int, default=0, help="of the isolation forests (default 0)")
    fit.add_argument(
        "--trees",
        metavar="N",
        help="of each forest, or 'paper' for the paper's 100 (default 1000, or as many as --stability needs)",
    )
    fit.add_argument(
        "--stability",
        type=float,
        default=0.95,
        metavar="R",
        help="correlation that scores of another seed are to have with these (0.95)",
    )
    score = command(verbs, "score", _score, "score an explanation, or every case of a cohort, against a profile")
    score.add_argument("explanation", metavar="EXPLANATION", help="Explanation folder, or cohort folder")
    score.add_argument("--profile", required=True, metavar="FILE")
    score.add_argument("--out", metavar="FILE", help="write all scores: .json (with reasons) or .csv")
    score.add_argument(
        "--false-alarms",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="share of usual structures, and of usual patients, that may be called unusual (0.05)",
    )


def _fit(options: argparse.Namespace) -> None:
    from Agg2ExpLib.cohort.judge.forest import PAPER_TREES
    from Agg2ExpLib.cohort.judge.profile import fit_profile

    trees = None
    if options.trees is not None:
        trees = PAPER_TREES if options.trees == "paper" else numbers(options.trees, "--trees", int, 1)[0]
    profile = fit_profile(
        table_of(options.cohort), options.seed, progress_of(options), trees=trees, wanted=options.stability
    )
    path = profile.save(options.out)
    if options.progress != "json":
        notes = [f"  {profile.stability_in_words()}", *(f"  note: {note}" for note in profile.warnings())]
        say("\n".join([f"profile of {len(profile.cases)} cases and {len(profile.classes)} classes in {path}", *notes]))


def _score(options: argparse.Namespace) -> None:
    from Agg2ExpLib.cohort.judge.profile import Profile
    from Agg2ExpLib.cohort.judge.score_files import describe_patients, describe_scores, write_scores
    from Agg2ExpLib.cohort.judge.scoring import score_patients, score_table
    from Agg2ExpLib.cohort.run.store import DOCUMENT
    from Agg2ExpLib.cohort.table.tables import CohortTable
    from Agg2ExpLib.explanation import Explanation

    if not 0.0 < options.false_alarms < 1.0:
        raise InputError(f"--false-alarms is {options.false_alarms:g}: it must be between 0 and 1, such as 0.05")
    profile = Profile.load(options.profile)
    folder = Path(options.explanation)
    many = (folder / DOCUMENT).is_file()
    table = table_of(folder) if many else CohortTable.of_explanation(Explanation.load(folder))
    scores = score_table(profile, table, false_alarms=options.false_alarms, progress=progress_of(options))
    if options.out:
        write_scores(profile, scores, options.out, options.false_alarms)
    if options.progress == "json":
        return
    if many:
        patients = score_patients(profile, scores, options.false_alarms)
        say(describe_patients(patients, options.false_alarms, len(profile.cases)))
    for case in table.cases[:20]:
        mine = [one for one in scores if one.case == case]
        say(f"{case}, " * many + describe_scores(profile, mine, options.false_alarms))
    if len(table.cases) > 20:
        say(f"and {len(table.cases) - 20} more cases; write all of them with --out FILE.csv")
