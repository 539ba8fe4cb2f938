"""compare-methods: the whole benchmark on toy cases, its passes, its tables, and going on after a kill."""

import csv
import json
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from Agg2ExpLib.cli import main
from Agg2ExpLib.comparison import MethodSpec, Plan, compare_methods
from Agg2ExpLib.comparison.passes import passes_of_one
from Agg2ExpLib.comparison.plan import PAPER_CLASSES, PAPER_METHODS, find_scans
from Agg2ExpLib.comparison.table import QualityTable, Row
from Agg2ExpLib.errors import Cancelled, InputError, OutputError
from Agg2ExpLib.models import load_model
from Agg2ExpLib.models.bundle import write_model_folder
from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.models.model import SegmentationModel
from Agg2ExpLib.phantom import write_phantoms
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.quality import MEASURES
from Agg2ExpLib.volume import Grid, Volume
from Testing.bench import warm

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[1]


class Bands(torch.nn.Module):
    """Seven classes by grey level and position, with context, so that all are found in a phantom."""

    def __init__(self, classes=7):
        super().__init__()
        torch.manual_seed(0)
        self.mix = torch.nn.Conv3d(1, 1, 3, padding=1)
        self.centres = torch.nn.Parameter(torch.linspace(0.02, 0.62, classes)[None, :, None, None, None])
        self.calls = 0
        self.requires_grad_(False)

    def forward(self, x):
        self.calls += len(x)
        level = x + 0.05 * torch.tanh(self.mix(x))
        return 1.0 - 40.0 * (level - self.centres) ** 2


def toy_model(classes=7, window=16):
    card = ModelCard(name="bands", labels=PAPER_CLASSES[:classes], window=(window,) * 3, spacing=(16.0,) * 3)
    return SegmentationModel(card, Bands(classes).eval(), "0" * 64, Path("bands.safetensors"))


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    write_phantoms(folder, 2, seed=9, spacing=10.0)
    return folder


SMALL = {"batch_size": 8, "subsets": 6, "subset_voxels": 150, "copies": 2, "supervoxel_count": 20}
QUICK = Plan(methods=("gradient", "kernelshap:cubes=60"), device="cpu", **SMALL)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def without_time(rows):
    return [row for row in rows if row["measure"] != "efficiency"]


@pytest.fixture(scope="module")
def events():
    """Return what the comparison below told of its progress."""
    return []


@pytest.fixture(scope="module")
def compared(cases, events, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared") / "out"
    return compare_methods(find_scans([cases]), toy_model(), out, QUICK, progress=Progress(events.append))


def first_of(cases):
    return dict([next(iter(find_scans([cases]).items()))])


def test_the_long_table_has_every_case_method_class_and_measure(compared, cases):
    rows = rows_of(compared.folder / "quality_long.csv")
    names = [path.name for path in sorted(cases.iterdir())]
    keys = {(row["case"], row["method"], row["class"], row["measure"]) for row in rows}
    assert len(keys) == len(rows)
    measured = {row["class"] for row in rows}
    assert len(measured) >= 6
    for case in names:
        for method in ("gradient", "kernelshap:cubes=60"):
            for measure in (*MEASURES, "randomisation"):
                assert (case, method, "background", measure) in keys
    for row in rows:
        if row["measure"] == "faithfulness" and row["value"] != "nan":
            assert -1 <= float(row["low"]) <= float(row["value"]) <= float(row["high"]) <= 1


def test_the_summary_is_the_mean_and_spread_of_the_long_table(compared):
    rows = rows_of(compared.folder / "quality_long.csv")
    summary = rows_of(compared.folder / "quality_table.csv")
    assert [row["method"] for row in summary] == ["gradient", "kernelshap:cubes=60"]
    for line in summary:
        for measure in MEASURES:
            values = [float(r["value"]) for r in rows if (r["method"], r["measure"]) == (line["method"], measure)]
            values = np.array(values)[np.isfinite(values)]
            assert float(line[f"{measure}_mean"]) == pytest.approx(values.mean())
            assert float(line[f"{measure}_sd"]) == pytest.approx(values.std(ddof=1))
            assert int(line[f"{measure}_n"]) == len(values)
            assert {line[f"{measure}_low"], line[f"{measure}_high"]} == {"nan"}, "two cases have no interval"
    text = (compared.folder / "quality_table.md").read_text(encoding="utf-8")
    assert text.startswith("| method | faithfulness ↑ | sensitivity ↓ | complexity ↓ | seconds ↓ |")
    assert "network passes" in text


def test_the_picture_is_there(compared):
    assert (compared.folder / "quality.png").read_bytes().startswith(b"\x89PNG")


def test_a_correlation_is_never_drawn_on_a_logarithmic_scale():
    from matplotlib.figure import Figure

    from Agg2ExpLib.comparison.figure import _panel

    for measure, scale in (("faithfulness", "linear"), ("randomisation", "linear"), ("efficiency", "log")):
        rows = [Row("a", "gradient", label, measure, value, np.nan, np.nan)
                for label, value in (("heart", 0.001), ("aorta", 0.9))]  # fmt: skip
        table = QualityTable(rows)
        axis = Figure().subplots()
        _panel(axis, table, table.summary(["gradient"]), measure, ["gradient"], ["heart", "aorta"])
        assert axis.get_xscale() == scale


def test_random_weights_give_other_attributions_and_the_number_says_so(cases, small_model, tmp_path):
    plan = Plan(methods=("gradient", "smoothgrad=3"), device="cpu", **SMALL)
    found = compare_methods(find_scans([cases]), load_model(small_model), tmp_path / "out", plan)
    alike = [row.value for row in found.table.rows if row.measure == "randomisation"]
    assert len(alike) == 2 * 2 * 3
    assert max(alike) < 0.5
    text = (tmp_path / "out" / "quality_table.md").read_text(encoding="utf-8")
    assert "rank correlation of |attribution| with that of the same network with random weights" in text
    assert "random weights ↓" in text.splitlines()[0]
    with (tmp_path / "out" / "quality_table.csv").open(newline="", encoding="utf-8") as stream:
        summary = {row["method"]: float(row["randomisation_mean"]) for row in csv.DictReader(stream)}
    for method, mean in summary.items():
        values = [r.value for r in found.table.rows if (r.method, r.measure) == (method, "randomisation")]
        assert mean == pytest.approx(np.mean(values))
    about = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert about["plan"]["randomised"] is True


def test_an_explainer_that_ignores_the_weights_is_found_out(cases, tmp_path):
    class Additive(Bands):
        """Whatever its weights, each voxel counts by its own grey level alone."""

        def forward(self, x):
            return torch.cat([2.0 * x * self.centres.std() / self.centres.std(), 0.5 - 0.0 * x], dim=1)

    model = toy_model(2)
    blind = SegmentationModel(model.card, Additive(2).eval(), "2" * 64, model.source)
    plan = Plan(methods=("integrated-gradients=2",), device="cpu", **SMALL)
    found = compare_methods(find_scans([cases]), blind, tmp_path / "out", plan)
    assert [row.value for row in found.table.rows if row.measure == "randomisation"] == pytest.approx([1.0] * 2)


def test_the_papers_benchmark_needs_less_than_a_tenth_of_the_passes(cases, tmp_path, capsys):
    # 5 methods, 7 classes, 4 measures; fewer samples in proportion, so that the test is quick.
    model = toy_model(window=10)
    methods = ("gradient", "smoothgrad=2", "integrated-gradients=2", "kernelshap:semantic=20", "kernelshap:cubes=100")
    plan = Plan(methods=methods, device="cpu", subsets=10, subset_voxels=150, supervoxel_count=50, batch_size=8)
    found = compare_methods(first_of(cases), model, tmp_path / "out", plan)
    assert len({row.method for row in found.table.rows}) == 5
    assert len({row.label for row in found.table.rows}) == 7
    about = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert about["network_passes"] == found.passes
    ratio = found.naive_passes / found.passes
    print(f"\n{found.passes} passes instead of {found.naive_passes}: {ratio:.1f} times fewer")
    assert ratio > 10


def test_the_passes_told_are_the_passes_made(cases, tmp_path):
    model = toy_model()
    plan = Plan(methods=("kernelshap:semantic=30", "occlusion:cubes"), device="cpu", randomised=False, **SMALL)
    model.network.calls = 0
    found = compare_methods(first_of(cases), model, tmp_path / "out", plan)
    assert model.network.calls == found.passes


def test_a_second_run_does_nothing_again_and_a_new_method_joins(compared, cases, tmp_path):
    model, first = toy_model(), compared
    shutil.copytree(compared.folder, tmp_path / "out")
    second = compare_methods(find_scans([cases]), model, tmp_path / "out", QUICK)
    assert model.network.calls == 0
    assert second.passes == first.passes
    assert second.table.to_long_csv() == first.table.to_long_csv()
    more = Plan(methods=(*QUICK.methods, "gradcam"), device="cpu", **SMALL)
    third = compare_methods(find_scans([cases]), model, tmp_path / "out", more)
    assert 0 < model.network.calls < first.passes
    assert [row for row in third.table.rows if row.method != "gradcam"] == first.table.rows


class Stop:
    """Cancels when a method's result is there."""

    def __init__(self, file):
        self.file = file

    def __call__(self):
        return self.file.exists()


def test_a_stopped_comparison_goes_on_and_equals_an_uninterrupted_one(compared, cases, tmp_path):
    first = sorted(path.name for path in cases.iterdir())[0]
    out = tmp_path / "out"
    with pytest.raises(Cancelled):
        compare_methods(find_scans([cases]), toy_model(), out, QUICK,
                        progress=Progress(cancelled=Stop(out / "cases" / first / "gradient.json")))  # fmt: skip
    assert not (out / "quality_long.csv").exists()
    kept = (out / "cases" / first / "gradient.json").read_bytes()
    found = compare_methods(find_scans([cases]), toy_model(), out, QUICK)
    assert (out / "cases" / first / "gradient.json").read_bytes() == kept
    assert without_time(rows_of(out / "quality_long.csv")) == without_time(
        rows_of(compared.folder / "quality_long.csv")
    )
    assert found.passes == compared.passes


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2]}
    card = ModelCard(name="small", labels=("background", "heart", "aorta"), spacing=(16.0,) * 3, window=(16, 16, 16),
                     architecture={"name": "UNet", "arguments": arguments})  # fmt: skip
    return write_model_folder(tmp_path_factory.mktemp("models") / "small", UNet(**arguments).state_dict(), card)


def words_of(cases, model, out):
    return ["compare-methods", str(cases), "--model", str(model), "--out", str(out), "--methods",
            "gradient,smoothgrad=3,occlusion:cubes", "--subsets", "8", "--subset-voxels", "100", "--copies", "2",
            "--supervoxel-count", "20", "--device", "cpu", "--progress", "none"]  # fmt: skip


def test_a_killed_process_repeats_no_finished_method(cases, small_model, tmp_path, capsys):
    out = tmp_path / "out"
    case = sorted(cases.iterdir())[0]
    words = words_of(case, small_model, out)
    result = out / "cases" / case.name / "gradient.json"
    with subprocess.Popen([*warm.python(), str(ROOT / "Agg2ExpLib" / "cli" / "__main__.py"), *words]) as process:
        while not result.exists() and process.poll() is None:
            time.sleep(0.02)
        process.kill()
    assert result.exists()
    before = result.stat().st_mtime_ns
    assert not (out / "comparison.json").exists()
    assert main(words) == 0
    assert result.stat().st_mtime_ns == before
    assert "network passes" in capsys.readouterr().out
    assert main(words_of(case, small_model, tmp_path / "whole")) == 0
    first, second = (without_time(rows_of(folder / "quality_long.csv")) for folder in (out, tmp_path / "whole"))
    assert first == second
    assert {row["method"] for row in first} == {"gradient", "smoothgrad=3", "occlusion:cubes"}


def test_a_failing_case_is_recorded_and_the_others_go_on(cases, small_model, tmp_path, capsys):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not a scan")
    words = words_of(cases, small_model, tmp_path / "out")
    assert main([words[0], str(broken), *words[1:]]) == 0
    about = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [failure["case"] for failure in about["failures"]] == ["broken"]
    assert "failed: broken" in capsys.readouterr().out
    assert len({row["case"] for row in rows_of(tmp_path / "out" / "quality_long.csv")}) == 2


def test_a_method_that_fails_leaves_the_others(cases, tmp_path):
    plan = Plan(methods=("gradient", "kernelshap:cubes=3"), device="cpu", **SMALL)
    found = compare_methods(find_scans([cases]), toy_model(), tmp_path / "out", plan)
    assert {failure["method"] for failure in found.failures} == {"kernelshap:cubes=3"}
    assert "too few" in found.failures[0]["reason"]
    assert {row.method for row in found.table.rows} == {"gradient"}


def test_an_attribution_of_zeros_is_told_and_left_out(cases, tmp_path):
    class Deaf(Bands):
        """Answers the same for every scan, but for its first two classes."""

        def forward(self, x):
            logits = super().forward(x)
            logits[:, 2:] = -9.0
            logits[:, 1] = 0.5
            return logits

    model = toy_model(3)
    deaf = SegmentationModel(model.card, Deaf(3).eval(), "1" * 64, model.source)
    plan = Plan(methods=("occlusion:cubes",), device="cpu", **SMALL)
    found = compare_methods(first_of(cases), deaf, tmp_path / "out", plan)
    assert {row.label for row in found.table.rows} == {"background"}
    assert any("aorta by occlusion:cubes" in note and "0 everywhere" in note for note in found.notes)
    assert any("lung_lower_lobe_left is absent" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--methods": "magic"}, "unknown method 'magic'"),
        ({"--methods": "gradient,gradient"}, "given twice"),
        ({"--methods": "gradient:cubes"}, "removes no supervoxels"),
        ({"--methods": "kernelshap:blobs"}, "unknown supervoxels 'blobs'"),
        ({"--methods": "gradient=5"}, "names no number of samples"),
        ({"--methods": "smoothgrad=x"}, "names no number of samples"),
        ({"--methods": ","}, "no method to compare"),
        ({"--classes": "hart"}, "did you mean heart"),
        ({"--subsets": "1"}, "at least 2 subsets"),
        ({"--subset-voxels": "99999999"}, "do not fit a scan"),
        ({"--copies": "0"}, "at least 1 copy"),
        ({"--device": "gpu"}, "unknown device"),
        ({"CASES": "nowhere"}, "nowhere: there is no such file or folder"),
        ({"--model": "nowhere"}, "nowhere"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_with_exit_code_2(cases, small_model, tmp_path, capsys, change, message):
    words = words_of(cases, small_model, tmp_path / "out")
    for option, value in change.items():
        if option == "CASES":
            words[1] = value
        elif option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_another_folders_contents_are_never_touched(cases, tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "precious.txt").write_text("data")
    (tmp_path / "scans" / "settings.json").write_text('{"of": "another program"}')
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="not a comparison's folder"):
            compare_methods(find_scans([cases]), toy_model(), tmp_path / "scans", QUICK, overwrite=overwrite)
    assert (tmp_path / "scans" / "precious.txt").exists()


def test_other_settings_need_another_folder_or_overwriting(cases, tmp_path):
    plans = [Plan(methods=("gradient",), device="cpu", seed=seed, randomised=False, **SMALL) for seed in (0, 1)]
    compare_methods(first_of(cases), toy_model(), tmp_path / "out", plans[0])
    with pytest.raises(OutputError, match="holds a comparison with other settings"):
        compare_methods(first_of(cases), toy_model(), tmp_path / "out", plans[1])
    compare_methods(first_of(cases), toy_model(), tmp_path / "out", plans[1], overwrite=True)


def test_a_scan_of_one_grey_level_is_refused_or_measured_but_never_a_crash(tmp_path):
    flat = Volume(np.full((20, 20, 20), -1024, np.int16), Grid((20, 20, 20), np.diag([16.0, 16.0, 16.0, 1.0])))
    with pytest.raises(InputError, match="nothing could be measured on 1 case"):
        compare_methods({"flat": flat}, toy_model(), tmp_path / "out", QUICK)


def test_progress_covers_the_whole_and_ends_full(compared, events):
    counted = [event for event in events if event.kind == "progress"]
    assert {event.stage for event in counted} == {"comparison"}
    done = [event.done for event in counted]
    assert done == sorted(done)
    assert done[-1] == counted[-1].total
    assert any("vanilla gradient" in event.detail for event in counted)


def test_the_default_is_the_papers_benchmark():
    assert Plan().methods == PAPER_METHODS
    assert [spec.samples for spec in Plan().specs] == [0, 20, 20, 200, 1000]
    assert Plan().class_indices((*PAPER_CLASSES, "other")) == list(range(7))
    assert Plan().class_indices(("background", "one")) == [0, 1]
    assert (Plan().subsets, Plan().subset_voxels, Plan().copies, Plan().noise_bound) == (100, 224**2, 3, 0.1)
    assert MethodSpec.parse("kernelshap:cubes=1000").name == "kernelshap:cubes"


def test_cases_are_files_case_folders_and_folders_of_them(cases, tmp_path):
    names = sorted(path.name for path in cases.iterdir())
    assert list(find_scans([cases])) == names
    assert list(find_scans([cases / names[0]])) == names[:1]
    other = tmp_path / names[0] / "ct.nii.gz"
    other.parent.mkdir()
    other.write_bytes(b"another scan of that name")
    assert list(find_scans([cases / names[0] / "ct.nii.gz", other])) == [names[0], f"{names[0]}_2"]
    with pytest.raises(InputError, match="is given twice; give each case once"):
        find_scans([cases, cases / names[0] / "ct.nii.gz"])


def test_a_case_named_by_dots_has_its_folders_name(cases, monkeypatch):
    # Its results lie in a folder of that name, which must not be "" or "..".
    first = sorted(cases.iterdir())[0]
    (first / "inner").mkdir(exist_ok=True)
    for here, place in ((first, "."), (first, "ct.nii.gz"), (first / "inner", "..")):
        monkeypatch.chdir(here)
        assert list(find_scans([place])) == [first.name]
    (first / "inner").rmdir()


def test_results_belong_to_everything_that_the_card_says():
    from dataclasses import replace

    from Agg2ExpLib.comparison.run import _identity

    model = toy_model()
    turned = replace(model, card=replace(model.card, orientation="LPS"))
    assert _identity(QUICK, model, [0, 1]) == _identity(QUICK, toy_model(), [0, 1])
    assert _identity(QUICK, model, [0, 1]) != _identity(QUICK, turned, [0, 1])


def test_a_method_at_two_sample_counts_has_two_names_to_read():
    specs = Plan(methods=("smoothgrad", "smoothgrad=3", "occlusion:cubes", "kernelshap:cubes=60")).specs
    assert [spec.readable for spec in specs] == [
        "SmoothGrad", "SmoothGrad, 3 samples", "occlusion, cubes", "KernelSHAP, cubes, 60 samples"
    ]  # fmt: skip


def test_the_passes_compared_with_are_not_counted_larger_than_they_need_be():
    # A game of three supervoxels is played out by anyone: 8 coalitions, not 202.
    assert passes_of_one(Plan(), MethodSpec.parse("kernelshap"), 3) == 8
    assert passes_of_one(Plan(), MethodSpec.parse("kernelshap"), 17) == 202
    assert passes_of_one(Plan(), MethodSpec.parse("smoothgrad"), 0) == 40
    assert passes_of_one(Plan(), MethodSpec.parse("occlusion:cubes"), 30) == 31


def quality_rows(means, measure="faithfulness", labels=("a", "b")):
    return [
        Row(f"c{case}", method, label, measure, value + 0.01 * number, np.nan, np.nan)
        for method, values in means.items()
        for case, value in enumerate(values)
        for number, label in enumerate(labels)
    ]


def test_intervals_are_over_cases_and_not_over_the_classes_of_a_case():
    from scipy import stats

    cell = (
        QualityTable(quality_rows({"gradient": np.arange(6.0)})).summary(["gradient"]).cells["gradient"]["faithfulness"]
    )
    direct = stats.t.interval(0.95, 5, loc=2.505, scale=stats.sem(np.arange(6.0)))
    assert (cell.low, cell.high) == pytest.approx(direct)
    assert cell.count == 12


def test_a_method_is_bold_only_where_a_test_says_so():
    rng = np.random.default_rng(0)
    base = rng.random(12)
    clear = {"smoothgrad": base + 0.3 + 0.05 * rng.random(12), "gradient": base, "gradcam": base - 0.1 * rng.random(12)}
    summary = QualityTable(quality_rows(clear)).summary(list(clear))
    assert summary.best == {"faithfulness": "smoothgrad"}
    assert summary.to_markdown().count("**") == 2
    alike = {"smoothgrad": base + 0.02 * rng.standard_normal(12), "gradient": base}
    summary = QualityTable(quality_rows(alike)).summary(list(alike))
    assert summary.best == {}
    assert "**" not in summary.to_markdown()
    assert "there is none" in summary.to_markdown()
    few = {name: values[:4] for name, values in clear.items()}
    assert QualityTable(quality_rows(few)).summary(list(few)).best == {}, "four cases prove nothing"
    assert QualityTable(quality_rows(clear, "complexity")).summary(list(clear)).best == {"complexity": "gradcam"}


def test_faithfulness_says_that_its_mask_is_fixed_and_has_the_published_rule_as_an_option(compared, cases, tmp_path):
    from Agg2ExpLib.case import Case
    from Agg2ExpLib.case.segmentation import stitched_logits
    from Agg2ExpLib.quality import random_subsets

    fixed = (compared.folder / "quality_table.md").read_text(encoding="utf-8")
    assert "mask of the whole scan's prediction, which stays fixed" in fixed
    plan = Plan(methods=("gradient",), device="cpu", mask="own", randomised=False, **SMALL)
    scan = dict(list(find_scans([cases]).items())[:1])
    found = compare_methods(scan, toy_model(), tmp_path / "own", plan)
    assert "each copy's own predicted mask" in (found.folder / "quality_table.md").read_text(encoding="utf-8")
    shared = json.loads((found.folder / "cases" / next(iter(scan)) / "shared.json").read_text())
    case = Case.open(next(iter(scan.values())), toy_model(), device="cpu")
    stitched = case.stitched[0]

    def sums(x):
        logits = stitched_logits(stitched.of(x), 7)
        return np.array([float(logits[c][logits.argmax(dim=0) == c].double().sum()) for c in range(7)])

    whole = sums(stitched.x)
    for number, subset in enumerate(random_subsets(stitched.x[0].numel(), 150, 6, plan.seed)):
        changed = stitched.x.clone().reshape(1, -1)
        changed[:, subset] = stitched.removed[:, None]
        wanted = dict(zip(PAPER_CLASSES, whole - sums(changed.reshape(stitched.x.shape)), strict=True))
        assert shared["effects"][number] == pytest.approx([wanted[n] for n in shared["classes"]], rel=1e-4, abs=1e-2)
    with pytest.raises(InputError, match="unknown mask 'other' of faithfulness: use fixed, own"):
        Plan(mask="other")
