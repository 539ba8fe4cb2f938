"""Tables and comparisons that cannot be what they seem: refused or left open, never a number without a word."""

import numpy as np
import pandas as pd
import pytest
from cohort_samples import LABELS, table_of, write_cohort

from Agg2ExpLib.cohort.judge.calibration import calibration_curve
from Agg2ExpLib.cohort.judge.networks import compare_models, one_way
from Agg2ExpLib.cohort.table.published import import_published
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import InputError


@pytest.fixture
def frame():
    """Return a table of six patients, four classes that fill the volume; every second lacks the last."""
    rng = np.random.default_rng(0)
    rows = []
    for n in range(6):
        volumes = rng.dirichlet((9, 3, 2, 1)) * (1, 1, 1, n % 2)
        row = {"patient": f"p{n}"}
        for k, name in enumerate(LABELS):
            mass = volumes * rng.random(4) * (volumes[k] > 0)
            for roi, part, volume in zip(LABELS, mass / (mass.sum() or 1), volumes, strict=True):
                row[f"{name}_explanation_in_{roi}_mass"] = part
                row[f"{name}_explanation_in_{roi}_mean"] = part / volume if volume else np.nan
            row[f"{name}_dice"] = rng.random()
        rows.append(row)
    return pd.DataFrame(rows)


def masses(frame):
    return [name for name in frame if name.endswith("_mass")]


def test_the_table_itself_is_read(frame, tmp_path):
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = import_published(tmp_path / "t.csv", tmp_path / "out")
    assert (found.patients, found.absent, found.partition) == (6, 3, True)


MASS, MEAN = "heart_explanation_in_heart_mass", "heart_explanation_in_heart_mean"


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        (MASS, -0.1, "-0.1 is not a share of 0 to 1"),
        (MASS, 35.0, "35 is not a share of 0 to 1"),
        (MASS, np.inf, "inf is not a share"),
        (MEAN, -1.0, "-1 is not the mean of an absolute value"),
        (MEAN, np.inf, "inf is not the mean"),
        ("heart_dice", 90.0, "a Dice of 90 of heart is not 0 to 1"),
        (MASS, np.nan, "patient p1: the masses of heart sum to"),
    ],
)
def test_values_that_cannot_be_are_named(frame, tmp_path, column, value, told):
    frame.loc[1, column] = value
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match=told):
        import_published(tmp_path / "t.csv", tmp_path / "out")


def test_a_rounded_partition_is_not_taken_for_extra_masks(frame, tmp_path):
    """Whose masses of 0 would be patients without the finding, in every mean, not absent classes."""
    frame[masses(frame)] = frame[masses(frame)].round(2)
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match="export all of them, with six digits or more"):
        import_published(tmp_path / "t.csv", tmp_path / "out")


def test_an_analysis_of_variance_of_equal_values_or_far_apart_ones_ends():
    level = one_way([np.full(7, 0.1), np.full(7, 0.1)])
    apart = one_way([np.full(7, 0.1), np.full(7, 0.3)])
    assert np.isnan([level.f, level.p, apart.f, apart.p]).all(), "what is left of equal values is rounding"
    far = one_way([np.array([0.1, 0.1 + 1e-8, 0.1]), np.array([0.9, 0.9, 0.9 + 1e-8])])
    assert far.p < 1e-6
    assert far.share == pytest.approx(1.0)


def test_networks_that_are_always_right_are_compared(tmp_path):
    tables = {f"case{n}": table_of(f"case{n}") for n in range(5)}
    cohorts = {}
    for name, value in (("a", 0.1), ("b", 0.3)):
        dice = {case: dict.fromkeys(LABELS[1:], value) for case in tables}
        cohorts[name] = CohortTable.read(write_cohort(tmp_path / name, tables, None, dice))
    text = compare_models(cohorts).to_markdown()
    assert "| heart | 5 | 0.100 (0.100-0.100) | 0.300 (0.300-0.300) | – | – | – | – |" in text
    assert "nan" not in text


def test_a_group_of_few_cases_has_no_interval():
    predicted = np.array([0.5] * 4 + [0.7] * 3 + [0.9] * 13)
    counts = [(one.count, bool(np.isfinite(one.low))) for one in calibration_curve(predicted, predicted)]
    assert (13, True) in counts
    assert all(known == (count >= 5) for count, known in counts)
    assert min(count for count, _ in counts) < 5
