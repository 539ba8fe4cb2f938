"""The part of the cohort's report that compares groups: sex, age bands, scanner, any column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.groups import FEWEST_IN_GROUP, MOST_GROUPS, Grouping, GroupTest
from Agg2ExpLib.cohort.judge.intervals import by_patient, detectable_area
from Agg2ExpLib.cohort.judge.reasons import percent
from Agg2ExpLib.cohort.judge.statistics import mean_matrix
from Agg2ExpLib.cohort.report import pictures
from Agg2ExpLib.cohort.report.drawings import extra_regions, medians_of
from Agg2ExpLib.cohort.report.page import Page, interval, number, p_value
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.figures import heat_map
from Agg2ExpLib.storage import safe_file_name

# Tests shown, and groups that one still tells apart in a picture.
_MOST_TESTS, _MOST_DRAWN = 10, 8


def write_groups(page: Page, table: CohortTable, grouping: Grouping, tests: Sequence[GroupTest], together: int) -> None:
    """Write the section of one grouping: who is in it, context and mean matrix of each group, and the tests.

    Parameters
    ----------
    page, table, grouping
        Where, of what and by what.
    tests : sequence of GroupTest
        Of this grouping.
    together : int
        How many tests of all groupings the q of these are corrected for.
    """
    column = grouping.column
    page.section(f"By {column}")
    groups = grouping.split(table)
    if not groups:
        page.text("No case has a value.", "note")
        return
    missing = grouping.missing(table)
    told = "; ".join(f"{name}: {len(index)} cases" for name, index in groups.items())
    page.text(told + (f"; without a value and left out: {missing}" if missing else "") + ".")
    numbers = table.numbers(column)
    if not grouping.edges and numbers is not None and set(groups) != set(map(str.strip, table.column(column))) - {""}:
        page.text(
            f"A column of more than {MOST_GROUPS} numbers is split at its median; for bands of your own: "
            f"--group {column}:50,65,80",
            "note",
        )
    large = {name: index for name, index in groups.items() if len(index) >= FEWEST_IN_GROUP}
    left = [name for name in groups if name not in large]
    if left:
        page.text(f"Fewer than {FEWEST_IN_GROUP} cases, so not compared: {', '.join(left)}.", "note")
    if len(large) < 2:
        page.text(f"There are not two groups of {FEWEST_IN_GROUP} cases or more to compare.", "note")
        return
    _pictures(page, table, column, large)
    _tests(page, grouping, tests, together, large)


def _pictures(page: Page, table: CohortTable, column: str, groups: Mapping[str, np.ndarray]) -> None:
    if len(groups) > _MOST_DRAWN:
        return
    parts = {name: table.select(index.tolist()) for name, index in groups.items()}
    contexts = {name: medians_of(by_patient(part.context(), part.patients())) for name, part in parts.items()}
    means = {f"{name} ({len(parts[name].cases)})": found for name, found in contexts.items()}
    title, stem = f"Context by {column}", safe_file_name(column)
    page.picture(pictures.group_means(means, table.classes, title), title, f"context_by_{stem}")
    page.fold("Mean mass in each group")
    for place, (name, part) in enumerate(parts.items(), start=1):
        mass = mean_matrix(part.values["mass"])
        title = f"{column}: {name}, mean mass over {len(part.cases)} cases, %"
        figure = heat_map(mass.mean, table.classes, table.rois, "mass", title=title, extra=extra_regions(table))
        page.picture(figure, title, f"heat_map_mass_{stem}_{place}")
    page.unfold()


def _tests(
    page: Page, grouping: Grouping, tests: Sequence[GroupTest], together: int, groups: Mapping[str, np.ndarray]
) -> None:
    if not tests:
        page.text("Nothing varies between these cases, so there is nothing to test.", "note")
        return
    kind = "Mann-Whitney" if len(groups) == 2 else "Kruskal-Wallis, or Mann-Whitney where a class leaves two groups"
    real = sum(test.q < 0.05 for test in tests)
    page.summary(
        f"By {grouping.column}: {real or 'none'} of {len(tests)} compared shares of attribution "
        f"{'differs' if real == 1 else 'differ'} between the groups (q < 0.05)."
    )
    found = "None stays" if not real else "1 stays" if real == 1 else f"{real} stay"
    page.text(
        f"{len(tests)} tests were made ({kind}): the context of each class, and the mass of each region for it. {found} "
        f"below q = 0.05 after correction for all {together} of them in this report (Benjamini-Hochberg)."
    )
    if len(groups) == 2:
        sizes = [len(index) for index in groups.values()]
        page.text(
            f"With {sizes[0]} and {sizes[1]} cases a single test finds, with a power of 80 %, effects from "
            f"{detectable_area(*sizes):.2f} on (chance that a case of {next(iter(groups))} has the higher value; 0.50 is none). "
            "Smaller ones may be there.",
            "note",
        )
    page.text(f"Those of the smallest p ({min(len(tests), _MOST_TESTS)} of {len(tests)}), medians per group:", "note")
    effects = ["effect (95 % interval)"] if len(groups) == 2 else []
    header = ["class", "region", *tests[0].medians, *effects, "p", "q"]
    rows = [
        [
            structure(test.name).name,
            structure(test.roi).name if test.roi else "context",
            *(percent(value) if math.isfinite(value) else "–" for value in test.medians.values()),
            *(f"{number(test.effect, 2)} {interval(test.low, test.high, 2)}".strip() for _ in effects),
            p_value(test.p),
            p_value(test.q),
        ]
        for test in tests[:_MOST_TESTS]
    ]
    page.table(header, rows)
