"""Figures from tables: what is drawn equals the numbers, at one class and at 118, on light and on dark paper."""

import math

import numpy as np
import pytest
from figure_cases import many_classes, outside_of_page, overlapping, random_table, texts_of
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from Agg2ExpLib.anatomy import THORAX_17, structure
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.figures import (
    box_plots,
    class_bars,
    context_bars,
    draw_graph,
    heat_map,
    importance_graph,
    importance_heat_map,
    source_graph,
    table_matrix,
)
from Agg2ExpLib.figures.style import colour_of, readable

EXTRA = ("pleural_effusion", "nodule")


@pytest.fixture(scope="module")
def table():
    return random_table(THORAX_17, EXTRA, absent=("trachea",))


@pytest.fixture(scope="module")
def large():
    return random_table(many_classes(), EXTRA, absent=("gland_6", "rib_left_1"))


def picture(figure):
    return figure.axes[0].images[0].get_array()


def arrows(figure):
    return {arrow.get_gid(): arrow for arrow in figure.axes[0].patches if isinstance(arrow, FancyArrowPatch)}


def dots(figure):
    return {p.get_gid(): p for p in figure.axes[0].patches if isinstance(p, (Circle, Rectangle))}


def test_the_heat_map_holds_the_numbers_of_the_table(table):
    for measure in ("mass", "enrichment"):
        drawn = picture(importance_heat_map(table, measure, extra=EXTRA))
        np.testing.assert_array_equal(np.ma.filled(drawn, np.nan), table.matrix(measure))


def test_without_background_the_shares_of_the_other_classes_sum_to_one(table):
    matrix, columns = table_matrix(table, "mass-without-background", EXTRA)
    assert columns == THORAX_17[1:]
    mass = table.matrix("mass")
    expected = mass[:, 1:17] / (1 - mass[:, [0]])
    np.testing.assert_allclose(matrix, expected, rtol=1e-9)
    assert np.isnan(matrix[table.classes.index("trachea")]).all()
    drawn = picture(importance_heat_map(table, "mass-without-background", extra=EXTRA))
    np.testing.assert_array_equal(np.ma.filled(drawn, np.nan), matrix)


def test_an_absent_class_is_a_grey_row_that_says_so(table):
    figure = importance_heat_map(table, "mass", extra=EXTRA)
    row = table.classes.index("trachea")
    image = figure.axes[0].images[0]
    colours = image.cmap(image.norm(image.get_array()))
    assert {to_hex(colour) for colour in colours[row]} == {"#c9ccd1"}
    assert "#c9ccd1" not in {to_hex(colour) for index, line in enumerate(colours) for colour in line if index != row}
    assert "absent from the prediction" in texts_of(figure)
    assert "absent (no voxel)" in texts_of(figure)


def test_a_full_table_has_no_legend_of_absence():
    assert "absent (no voxel)" not in texts_of(importance_heat_map(random_table(THORAX_17)))


def test_a_ratio_is_coloured_around_one_and_a_ratio_of_zero_is_not_absent():
    figure = heat_map(np.array([[0.0, 0.25, 1.0, 4.0]]), ["heart"], ["heart", "aorta", "ribs", "trachea"], "enrichment")
    image = figure.axes[0].images[0]
    zero, less, one, more = image.cmap(image.norm(image.get_array()))[0]
    assert min(one[:3]) > 0.95
    assert less[2] > less[0]
    assert more[0] > more[2]
    assert to_hex(zero) != "#c9ccd1"


@pytest.mark.parametrize("background", ["light", "dark"])
def test_every_measure_is_named_with_its_unit_and_all_text_stands_out_from_the_paper(table, background):
    from matplotlib.text import Text

    for measure, words in (
        ("mass", "%"),
        ("mass-without-background", "%"),
        ("enrichment", "1 = as much as any region"),
    ):
        figure = importance_heat_map(table, measure, extra=EXTRA, background=background)
        assert any(words in axes.get_xlabel() for axes in figure.axes)
        paper = np.mean(to_rgb(figure.get_facecolor()))
        assert (paper > 0.5) == (background == "light")
        on_paper = [text for text in figure.findobj(Text) if text.get_text() and text not in figure.axes[0].texts]
        assert min(abs(np.mean(to_rgb(text.get_color())) - paper) for text in on_paper) > 0.35


def test_the_ends_of_the_colour_bar_are_arrows_only_when_ratios_lie_beyond_it():
    from Agg2ExpLib.figures.measures import MEASURES
    from Agg2ExpLib.figures.scales import scale_of
    from Agg2ExpLib.figures.style import drawing

    with drawing("light") as theme:
        found = [scale_of(np.array([top, 1.0]), MEASURES["enrichment"], theme).beyond for top in np.linspace(3, 64, 50)]
        assert not any(found)
        assert scale_of(np.array([65.0]), MEASURES["enrichment"], theme).beyond


def test_extra_regions_stand_behind_a_line(table):
    figure = importance_heat_map(table, "mass", extra=EXTRA)
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [16.5]
    assert not importance_heat_map(table, "mass").axes[0].lines


def test_the_chips_beside_the_names_have_the_colours_of_the_structures(table):
    chips = [patch for patch in importance_heat_map(table).axes[0].patches if not patch.get_clip_on()]
    expected = [colour_of(name) for name in (*table.classes, *table.rois)]
    assert [patch.get_facecolor()[:3] for patch in chips] == [pytest.approx(colour) for colour in expected]


def test_half_widths_are_written_into_small_matrices_and_dotted_in_large_ones():
    small = heat_map(np.array([[0.3, 0.7]]), ["heart"], ["heart", "aorta"], half_widths=np.array([[0.012, 0.05]]))
    assert {"30\n±1.2", "70\n±5.0"} <= set(texts_of(small))
    names = many_classes(30)
    values = np.full((30, 30), 0.1)
    half = np.full((30, 30), 0.05)
    half[3, 5] = half[20, 1] = 0.1
    large = heat_map(values, names, names, half_widths=half)
    dots = next(found for found in large.axes[0].collections if isinstance(found, PathCollection))
    assert {tuple(spot) for spot in dots.get_offsets()} == {(5, 3), (1, 20)}


@pytest.mark.parametrize("count", [1, 16, 117])
def test_names_of_the_heat_map_are_all_there_and_none_touches_another(count):
    found = random_table(many_classes(count + 1), EXTRA)
    figure = importance_heat_map(found, "enrichment", extra=EXTRA)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [readable(name) for name in found.classes]
    assert [label.get_text() for label in axes.get_xticklabels()] == [readable(name) for name in found.rois]
    assert overlapping(axes.get_yticklabels(), figure) == []
    assert overlapping(axes.get_xticklabels(), figure) == []
    assert outside_of_page(figure) == {}


@pytest.mark.parametrize("measure", ["mass", "enrichment"])
def test_the_edges_are_the_three_strongest_other_regions_of_each_class(large, measure):
    graph = source_graph(large.matrix(measure), large.classes, large.rois, measure)
    expected = set()
    for row, name in enumerate(large.classes):
        values = large.matrix(measure)[row].copy()
        if np.isnan(values).any():
            continue
        values[[0, large.rois.index(name)]] = -1
        expected |= {(large.rois[index], name) for index in np.argsort(values)[-3:]}
    assert set(graph.edges) == expected
    for source, target, weight in graph.edges(data="weight"):
        assert weight == large.matrix(measure)[large.classes.index(target), large.rois.index(source)]
    figure = importance_graph(large, measure)
    assert set(arrows(figure)) == {f"{source}->{target}" for source, target in expected}


def test_background_is_a_node_when_asked_for(table):
    without = source_graph(table.matrix("mass"), table.classes, table.rois)
    assert "background" not in without
    with_it = source_graph(table.matrix("mass"), table.classes, table.rois, with_background=True)
    assert set(with_it) == {*without, "background"}
    assert {"background"} & {source for source, _ in with_it.edges}


def test_an_absent_class_is_a_hollow_dot_without_arrows(table):
    figure = importance_graph(table, extra=EXTRA)
    assert not [name for name in arrows(figure) if name.endswith("->trachea")]
    assert to_hex(dots(figure)["trachea"].get_facecolor()) == "#ffffff"
    assert "absent from the prediction" in texts_of(figure)


def test_dots_have_the_colours_of_their_structures_and_the_size_of_their_own_share(table):
    found = dots(importance_graph(table, extra=EXTRA))
    assert set(found) == set(table.rois) - {"background"}
    for name in (*table.classes, *EXTRA):
        if name != "trachea":
            assert found[name].get_facecolor()[:3] == pytest.approx(colour_of(name))
    own = {name: table.matrix("mass")[row, row + 1] for row, name in enumerate(table.classes) if name != "trachea"}
    assert max(own, key=own.get) == max(own, key=lambda name: found[name].get_radius())
    assert {name for name, dot in found.items() if isinstance(dot, Rectangle)} == set(EXTRA)


def test_arrows_are_wider_the_stronger_they_are(table):
    for measure in ("mass", "enrichment"):
        graph = source_graph(table.matrix(measure), table.classes, table.rois, measure)
        drawn = arrows(importance_graph(table, measure))
        weights = [(weight, drawn[f"{source}->{target}"].get_arrowstyle().tail_width) for source, target, weight in
                   graph.edges(data="weight")]  # fmt: skip
        widths = [width for _, width in sorted(weights)]
        assert widths == sorted(widths)
        assert widths[-1] > 2 * widths[0]


def test_the_dots_of_one_system_stand_together(large):
    figure = importance_graph(large)
    turns = sorted((math.atan2(*dot.get_center()[::-1]), name) for name, dot in dots(figure).items())
    systems = [structure(name).system for _, name in turns]
    changes = sum(systems[index] != systems[index - 1] for index in range(len(systems)))
    assert changes == len(set(systems))


@pytest.mark.parametrize("classes", [THORAX_17, THORAX_17[:2], THORAX_17[:8]])
def test_names_of_a_small_graph_do_not_touch(classes):
    figure = importance_graph(random_table(classes, EXTRA), extra=EXTRA)
    assert overlapping(figure.axes[0].texts, figure) == []
    assert outside_of_page(figure) == {}


def test_names_of_a_large_graph_have_room_on_the_circle_and_on_the_page(large):
    figure = importance_graph(large, extra=EXTRA)
    texts = figure.axes[0].texts
    spots = np.array([text.get_position() for text in texts])
    apart = np.linalg.norm(spots[:, None] - spots[None], axis=2) + 10 * np.eye(len(spots))
    assert len(texts) == 119
    # Axes are in inches; a name along a radius needs the height of its letters on the circle.
    assert apart.min() > texts[0].get_size() / 72
    assert outside_of_page(figure) == {}


def test_context_bars_are_one_minus_the_own_share_largest_first_and_absent_last(table):
    axes = context_bars(table).axes[0]
    values = {name: 1 - table.matrix("mass")[row, row + 1] for row, name in enumerate(table.classes)}
    absent = values.pop("trachea")
    order = sorted(values, key=values.get, reverse=True)
    assert np.isnan(absent)
    assert [label.get_text() for label in axes.get_yticklabels()] == [*map(readable, order), "trachea"]
    assert [bar.get_width() for bar in axes.patches[:-1]] == pytest.approx([values[name] for name in order])
    assert [bar.get_facecolor()[:3] for bar in axes.patches] == [
        pytest.approx(colour_of(name)) for name in [*order, "trachea"]
    ]
    assert "absent" in texts_of(axes.figure)


def test_a_hundred_context_bars_stand_in_panels_side_by_side(large):
    figure = context_bars(large)
    assert [len(axes.patches) for axes in figure.axes] == [39, 39, 39]
    assert all(overlapping(axes.get_yticklabels(), figure) == [] for axes in figure.axes)
    assert outside_of_page(figure) == {}


def test_class_bars_are_mass_and_enrichment_of_every_region(table):
    figure = class_bars(table, "heart", extra=EXTRA)
    shares, ratios = figure.axes
    row = table.classes.index("heart")
    order = np.argsort(-table.matrix("mass")[row])
    assert [bar.get_width() for bar in shares.patches] == pytest.approx(list(table.matrix("mass")[row, order]))
    ends = [bar.get_x() + bar.get_width() for bar in ratios.patches]
    assert ends == pytest.approx(list(np.maximum(table.matrix("enrichment")[row, order], 1 / 64)))
    assert {bar.get_x() for bar in ratios.patches} == {1.0}
    hatched = [table.rois[order[index]] for index, bar in enumerate(shares.patches) if bar.get_hatch()]
    assert set(hatched) == set(EXTRA)
    assert outside_of_page(figure) == {}


def test_of_many_regions_the_largest_are_shown_with_the_class_itself_and_extra_regions(large):
    figure = class_bars(large, "artery_53", extra=EXTRA)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    row = large.classes.index("artery_53")
    largest = readable(large.rois[int(np.argmax(large.matrix("mass")[row]))])
    assert len(labels) == 24
    assert {"artery 53", largest, "pleural effusion *", "lung nodule *"} <= set(labels)
    assert any("24 of 120 regions" in text for text in texts_of(figure))


def test_bars_of_an_absent_class_say_so(table):
    figure = class_bars(table, "trachea", extra=EXTRA)
    assert any("no voxel of trachea" in text for text in texts_of(figure))
    with pytest.raises(InputError, match="did you mean heart"):
        class_bars(table, "hart")


def test_boxes_are_quartiles_and_outlying_cases_are_named():
    rng = np.random.default_rng(3)
    values = np.clip(rng.normal(0.4, 0.05, (20, 2)), 0, 1)
    values[7, 0], values[2, 1] = 0.95, np.nan
    figure = box_plots(values, [f"case {index}" for index in range(20)], ["heart", "aorta"])
    axes = figure.axes[0]
    box = axes.patches[0].get_path().get_extents()
    assert (box.x0, box.x1) == pytest.approx(tuple(np.percentile(values[:, 0], (25, 75))))
    assert "case 7" in texts_of(figure)
    assert axes.patches[1].get_facecolor()[:3] == pytest.approx(colour_of("aorta"))
    medians = [line.get_xdata()[0] for line in axes.lines if line.get_linewidth() == 1.4]
    assert medians == pytest.approx(np.nanmedian(values, axis=0))


def test_names_of_outliers_do_not_touch_and_a_class_absent_everywhere_says_so():
    rng = np.random.default_rng(5)
    values = np.exp(rng.standard_t(3, (60, 40)))
    values[:, 4] = np.nan
    figure = box_plots(values, [f"patient_{index:04d}" for index in range(60)], many_classes(40), "enrichment")
    assert "absent from every case" in texts_of(figure)
    names = [text for axes in figure.axes for text in axes.texts if "patient" in text.get_text()]
    assert len(names) > 10
    assert overlapping(names, figure) == []


def test_one_class_and_one_case_are_enough_for_every_figure():
    small = random_table(("background", "heart"))
    for measure in ("mass", "mass-without-background", "enrichment"):
        assert outside_of_page(importance_heat_map(small, measure)) == {}
        assert outside_of_page(importance_graph(small, measure)) == {}
    assert outside_of_page(context_bars(small)) == {}
    assert outside_of_page(class_bars(small, "heart")) == {}
    assert outside_of_page(box_plots(np.array([[0.5]]), ["only"], ["heart"])) == {}


@pytest.mark.parametrize("names", [("heart",), ("heart", "ribs"), THORAX_17[1:], many_classes(118)[1:]])
def test_no_text_of_a_heat_map_touches_another(names):
    from matplotlib.text import Text

    found = random_table(("background", *names), EXTRA, absent=names[:1])
    figure = importance_heat_map(found, "mass", extra=EXTRA, note="Scan ct.nii.gz, model thorax-phantom.")
    figure.draw_without_rendering()
    shown = [text for text in figure.findobj(Text) if text.get_visible()]
    assert overlapping(shown, figure) == []


def test_any_name_is_drawn_as_it_is_and_cut_when_endless():
    odd = random_table(("background", "$x^$_{", "a" * 300, "dollar $", "{}"), ("<b>&",))
    for figure in (
        importance_heat_map(odd, extra=("<b>&",)),
        importance_graph(odd),
        context_bars(odd),
        class_bars(odd, "{}"),
    ):
        figure.canvas.draw()
        assert outside_of_page(figure) == {}
    assert "dollar $" in texts_of(context_bars(odd))


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: heat_map(np.zeros((2, 3)), ["a"], ["a", "b", "c"]), "does not fit"),
        (lambda: heat_map(np.zeros((0, 0)), [], []), "no class"),
        (lambda: heat_map(np.array([[-0.1]]), ["a"], ["a"]), "negative"),
        (lambda: heat_map(np.array([[np.inf]]), ["a"], ["a"]), "infinite"),
        (lambda: heat_map(np.array([[0.1]]), ["a"], ["a"], half_widths=np.zeros(2)), "half-widths"),
        (lambda: heat_map(np.array([[0.1]]), ["a"], ["a"], "masss"), "did you mean mass"),
        (lambda: heat_map(np.array([[0.1]]), ["a"], ["a"], background="pink"), "light or dark"),
        (lambda: draw_graph(np.array([[0.1]]), ["a"], ["a"], count=0), "1 or more"),
        (lambda: box_plots(np.zeros((2, 2)), ["a"], ["b", "c"]), "do not fit"),
        (lambda: box_plots(np.array([[np.inf]]), ["a"], ["b"]), "infinite"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_reason(draw, words):
    with pytest.raises(InputError, match=words):
        draw()


def test_all_nan_is_drawn_as_absent():
    nothing = np.full((2, 3), np.nan)
    for measure in ("mass", "enrichment"):
        assert np.ma.getmaskarray(
            picture(heat_map(nothing, ["heart", "aorta"], ["heart", "aorta", "ribs"], measure))
        ).all()
        assert not arrows(draw_graph(nothing, ["heart", "aorta"], ["heart", "aorta", "ribs"], measure))
