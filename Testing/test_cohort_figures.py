"""agg2exp figures on cohorts, and the report's pictures: what is drawn, what stands apart, and the files that are there."""

import csv
import itertools
import re

import numpy as np
import pytest
from cohort_samples import table_of, write_cohort
from figure_cases import LABELS, SHAPE, write_explanation
from scipy import stats
from scipy.ndimage import distance_transform_edt

from Agg2ExpLib.cli import main
from Agg2ExpLib.cohort.judge.profile import fit_profile
from Agg2ExpLib.cohort.judge.size import shell_share
from Agg2ExpLib.cohort.report.drawings import joined_context
from Agg2ExpLib.cohort.report.html import write_report
from Agg2ExpLib.cohort.report.html_size import equal_size_shares, write_equal_size
from Agg2ExpLib.cohort.report.page import Page
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.figures import box_plots, heat_map, writing
from Agg2ExpLib.figures.style import colour_of

CLASSES = LABELS[1:4]


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """Two cohorts of seven cases by two methods, of which six were kept."""
    folder, rng = tmp_path_factory.mktemp("figures"), np.random.default_rng(0)
    found = []
    for method in ("gradient", "occlusion"):
        tables = {f"p{n}": table_of(f"{method} {n}", CLASSES, LABELS) for n in range(7)}
        dice = {case: dict.fromkeys(CLASSES, float(rng.uniform(0.6, 0.9))) for case in tables}
        found.append(write_cohort(folder / method, tables, dice=dice, method=method))
        for n in range(6):
            write_explanation(found[-1] / "explanations" / f"p{n}")
    return found


def test_one_command_draws_every_figure_of_the_paper(cohorts, tmp_path, capsys, monkeypatch):
    # How they look on the page is seen in the report's test.
    monkeypatch.setattr(writing, "rendered", lambda *_: b"drawn")
    words = ["figures", *map(str, cohorts), "--classes", "heart", "--out", str(tmp_path), "--progress", "none"]
    assert main(words) == 0
    names = {"overview", "context", "context_joined", "heat_map_mass", "heat_map_enrichment", "graph_mass", "graph_enrichment",
             "graph_positive", "graph_negative", "boxes_heart", "patients_heart", "methods_heart"}  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {
        *(f"{name}.{kind}" for name in names for kind in ("png", "svg")),
        "table_2.csv",
    }
    assert "boxes_heart.png, boxes_heart.svg" in capsys.readouterr().out
    table = CohortTable.read(cohorts[0])
    scores = fit_profile(table).held_out
    rows = {row["class"]: row for row in csv.DictReader((tmp_path / "table_2.csv").open(encoding="utf-8"))}
    by_hand = [stats.spearmanr(scores[:, i], table.dice[:, i]) for i in range(3)]
    assert [float(rows[name]["rho"]) for name in table.classes] == pytest.approx(
        [one.statistic for one in by_hand], rel=1e-4
    )
    q_values = stats.false_discovery_control([one.pvalue for one in by_hand])
    assert [float(rows[name]["q"]) for name in table.classes] == pytest.approx(q_values, rel=1e-4)


def test_what_cannot_be_drawn_is_said(cohorts, tmp_path, capsys):
    kept = cohorts[0] / "explanations" / "p0"
    for words, told in (
        ([cohorts[0], "--classes", "hart"], "does not explain 'hart': did you mean heart"),
        ([cohorts[0], kept], "give cohorts alone, or Explanation folders alone"),
        ([kept, cohorts[1] / "explanations" / "p0", "--classes", "aorta"], "does not explain 'aorta'"),
    ):
        assert main(["figures", *map(str, words), "--out", str(tmp_path)]) == 2
        assert told in capsys.readouterr().err
    assert main(["figures", str(cohorts[0]), str(cohorts[0]), "--out", str(tmp_path)]) == 2
    assert "two of the cohorts are called gradient; rename a folder" in capsys.readouterr().err


def test_background_squeezes_neither_boxes_nor_colours():
    rng = np.random.default_rng(2)
    values = np.column_stack([rng.uniform(0.7, 0.8, 20), rng.uniform(0.0, 0.05, 20), rng.uniform(0.1, 0.15, 20)])
    names = ["background", "heart", "pleural_effusion"]
    figure = box_plots(values, [f"c{n}" for n in range(20)], names, arranged=True)
    main_axes, apart = figure.axes
    assert [tick.get_text() for tick in main_axes.get_yticklabels()] == ["pleural effusion", "heart"]
    assert main_axes.get_xlim()[1] < 0.2 < 0.7 < apart.get_xlim()[1]
    assert [tick.get_text() for tick in apart.get_yticklabels()] == ["background"]
    assert max(main_axes.patches[0].get_facecolor()[:3]) < 0.35, "a pathology is black"
    assert main_axes.patches[1].get_facecolor()[:3] == pytest.approx(colour_of("heart"))
    matrix = np.array([[0.9, 0.08, 0.02], [0.7, 0.1, 0.2]])
    colours = heat_map(matrix, ["heart", "aorta"], ["background", "heart", "aorta"]).axes[0].images[0].norm
    assert colours.vmax == pytest.approx(0.2)


def test_lungs_and_back_muscles_are_joined():
    classes = ("heart", "lung_upper_lobe_left", "lung_lower_lobe_left", "autochthon_left", "autochthon_right")
    table = table_of("joined", classes, ("background", *classes))
    mass = table.values["mass"]
    cohort = CohortTable(("a",), classes, table.rois, {"mass": mass[None]}, np.full((1, 5), np.nan), np.full((1, 5), np.nan),
                         {}, {"model": {}, "settings": {}}, {}, np.zeros((1, 6)))  # fmt: skip
    names, context = joined_context(cohort)
    found = dict(zip(names, context[0], strict=True))
    assert set(found) == {"heart", "lungs", "deep back muscles"}
    assert found["heart"] == pytest.approx(1 - mass[0, 1])
    assert found["lungs"] == pytest.approx(1 - (mass[1, 2:4].sum() + mass[2, 2:4].sum()) / 2)
    assert found["deep back muscles"] == pytest.approx(1 - (mass[3, 4:].sum() + mass[4, 4:].sum()) / 2)


def test_the_shell_is_that_of_the_whole_volume_whatever_is_looked_at():
    rng = np.random.default_rng(4)
    strength, spacing = rng.random((24, 20, 18)), (1.0, 1.5, 3.0)
    for place, wide in itertools.product(((0, 0, 0), (9, 8, 7), (20, 3, 1)), (2, 5, 9)):
        mask = np.zeros(strength.shape, dtype=bool)
        mask[tuple(slice(start, start + wide) for start in place)] = True
        far = distance_transform_edt(~mask, sampling=spacing)[~mask]
        values, order = strength[~mask], np.sort(far)
        limit = order[min(mask.sum(), len(far)) - 1]
        part = (min(mask.sum(), len(far)) - (far < limit).sum()) / (far == limit).sum()
        wanted = (values[far < limit].sum() + part * values[far == limit].sum()) / strength.sum()
        assert shell_share(strength, mask, spacing) == pytest.approx(wanted, rel=1e-9)


def test_the_report_has_its_pictures_as_svg_and_beside_it_and_shows_patients_that_were_kept(cohorts, tmp_path):
    out = tmp_path / "report.html"
    (tmp_path / "quality_table.md").write_text(
        "| method | seconds |\n|---|---|\n| gradient | **1 ± 0** |\n\n4 cases.\n", encoding="utf-8"
    )
    words = ["cohort", "report", str(cohorts[0]), "--out", str(out), "--methods", str(tmp_path), "--progress", "none"]
    assert main(words) == 0
    text = out.read_text(encoding="utf-8")
    pictures = {path.name for path in (tmp_path / "report_figures").iterdir()}
    assert {"overview.png", "graph_positive.png", "boxes_heart.png", "context_joined.png"} <= pictures
    assert len(re.findall(r'src="data:image/svg\+xml;base64', text)) == len(pictures)
    assert "data:image/png" not in text
    assert "Quality of the methods" in text
    assert "<strong>1 ± 0</strong>" in text
    first = text[: text.index("<nav>")]
    assert "Cases to look at first: p" in first
    photo = re.search(r'<img class="photo"[^>]*alt="The oddest and the most usual patients: (\w+)', first)
    assert f"patients_{photo.group(1)}.png" in pictures
    assert "in 6 of 7 cases: a shell of as many voxels" in text
    explanation = Explanation.load(cohorts[0] / "explanations" / "p0")
    own, shell, shifted = equal_size_shares(explanation, ("heart",))[0]
    strength, mask = np.abs(explanation.attribution("heart").voxels), explanation.model_prediction().voxels == 1
    assert mask.shape == SHAPE
    assert own == pytest.approx(strength[mask].sum() / strength.sum(), rel=1e-5)
    assert 0 < shell < 1
    assert 0 < shifted < 1


def test_what_is_missing_beside_the_table_is_said(cohorts, tmp_path):
    page = Page("x")
    table = CohortTable.read(cohorts[0])
    write_equal_size(page, table, {})
    assert "cannot be told from a table alone" in page.render()
    with pytest.raises(InputError, match="give a folder of agg2exp compare-methods"):
        write_report(table, tmp_path / "r.html", methods=tmp_path)
