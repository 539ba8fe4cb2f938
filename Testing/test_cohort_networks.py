"""compare-models: one-way analyses of variance against scipy, effect sizes with intervals that cover, tables and pictures."""

import csv

import numpy as np
import pytest
from cohort_samples import LABELS, table_of, write_cohort
from scipy import stats

from Agg2ExpLib.cli import main
from Agg2ExpLib.cohort.judge.networks import compare_models, one_way
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import InputError


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("networks"), np.random.default_rng(3)
    base = rng.uniform(0.7, 0.9, (12, 3))
    found = []
    for number, better in enumerate((0.0, 0.05, 0.051)):
        cases = [f"c{n:02d}" for n in range(number, 12)]
        dice = {
            case: dict(zip(LABELS[1:], base[int(case[1:])] + better + rng.normal(0, 0.01, 3), strict=True))
            for case in cases
        }
        tables = {case: table_of(f"{case} {number}") for case in cases}
        found.append(write_cohort(folder / f"n{number}", tables, dice=dice, sha256=f"{number}" * 64))
    return found


def test_the_analysis_of_variance_is_scipys(cohorts):
    tables = {f"net {n}": CohortTable.read(folder) for n, folder in enumerate(cohorts)}
    found = compare_models(tables)
    assert (found.cases, found.left_out) == (10, 2)
    common = [f"c{n:02d}" for n in range(2, 12)]
    for row in found.rows:
        values = []
        for table in tables.values():
            whole = {"dice": table.dice, "context": table.context()}[row.measure]
            part = whole[[table.cases.index(case) for case in common]]
            values.append(part[:, table.classes.index(row.name)] if row.name else part.mean(axis=1))
        theirs = stats.f_oneway(*values)
        assert (row.variance.f, row.variance.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-9)
        every = np.concatenate(values)
        between = sum(len(one) * (one.mean() - every.mean()) ** 2 for one in values)
        assert row.variance.share == pytest.approx(between / ((every - every.mean()) ** 2).sum())
        assert row.variance.low <= row.variance.share <= row.variance.high
        for (mean, low, high), one in zip(row.means.values(), values, strict=True):
            assert mean == pytest.approx(one.mean())
            assert (low, high) == pytest.approx(stats.t.interval(0.95, len(one) - 1, one.mean(), stats.sem(one)))
    named = [row for row in found.rows if row.measure == "dice" and row.name]
    assert [row.q for row in named] == pytest.approx(stats.false_discovery_control([row.variance.p for row in named]))


@pytest.mark.parametrize("apart", [0.0, 0.7])
def test_the_interval_of_the_effect_covers(apart):
    rng = np.random.default_rng(1)
    means = np.array([0.0, apart, 0.0])
    spread = ((means - means.mean()) ** 2).mean()
    # The interval's parameter: noncentrality over noncentrality plus the number of values.
    truth, inside = spread / (spread + 1.0), 0
    for _ in range(250):
        found = one_way([rng.normal(mean, 1.0, 15) for mean in means])
        inside += found.low <= truth <= found.high
    assert 0.93 <= inside / 250 <= 0.99 if apart == 0.0 else 0.93 <= inside / 250 <= 0.97


def test_the_command_writes_tables_and_pictures(cohorts, tmp_path, capsys):
    words = [f"net {n}={folder}" for n, folder in enumerate(cohorts)]
    assert main(["compare-models", *words, "--out", str(tmp_path / "m"), "--progress", "none"]) == 0
    assert "Eta² is the share of the variance" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "m" / "models.csv").open(encoding="utf-8")))
    assert {(row["measure"], row["class"]) for row in rows} >= {("dice", "heart"), ("context", "mean over classes")}
    assert float(rows[0]["net 1 mean"]) > float(rows[0]["net 0 mean"])
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert {"models.md", "models_dice.png", "models_dice.svg", "models_context.png", "models_context.svg"} <= names


def test_what_cannot_be_compared_is_refused(cohorts, tmp_path, capsys):
    assert main(["compare-models", str(cohorts[0]), str(cohorts[1]), "--out", str(tmp_path)]) == 2
    assert "two of the networks are called 'made up'; give each a name" in capsys.readouterr().err
    table = CohortTable.read(cohorts[0])
    with pytest.raises(InputError, match="one network cannot be compared"):
        compare_models({"a": table})
    with pytest.raises(InputError, match="2 cases in common, and a comparison needs 3"):
        compare_models({"a": table.select([0, 1]), "b": table})
