"""KernelSHAP and occlusion of stitched predictions: closed forms, captum, passes saved, and the whole command."""

import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from attributions import attribute, predict, stitched_logits, stitched_of
from small_networks import GreyLevels, Smooth, aggregated, write_case

from Agg2ExpLib.case.attribution import PassCount
from Agg2ExpLib.case.objective import objectives
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.cli import main
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.methods.games.masking import LinearValues, MaskedValues
from Agg2ExpLib.methods.games.shapley import exact
from Agg2ExpLib.methods.games.supervoxels import Supervoxels, make_supervoxels
from Agg2ExpLib.volume import Grid, Volume, write_volume
from Testing.bench import warm

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[1]
SHAPE = (20, 9, 13)


class Linear(torch.nn.Module):
    """Logits that are sums of weighted voxels nearby: every window's answer is linear in the scan."""

    def __init__(self, classes=3):
        super().__init__()
        torch.manual_seed(7)
        self.mix = torch.nn.Conv3d(1, classes, 3, padding=1, bias=True)
        self.requires_grad_(False)

    def forward(self, x):
        return self.mix(x)


class Additive(torch.nn.Module):
    """Each voxel's logits are its own curved function: the game is additive, but not linear."""

    def forward(self, x):
        return torch.cat([torch.sin(5 * x), x**2 + 0.1, torch.exp(-x) - 0.3], dim=1)


class Case:
    """A scan, a network and what explaining it needs."""

    def __init__(self, network, shape=SHAPE, window=(12, 9, 12), overlap=0.25, blending="gaussian", count=12, x=None):
        torch.manual_seed(0)
        self.x = torch.rand(shape, dtype=torch.float64) if x is None else x
        self.network, self.windows = network.double(), Windows(tuple(self.x.shape), window, overlap, blending)
        self.classes = network(torch.zeros(1, 1, *window, dtype=torch.float64)).shape[1]
        self.found = predict(network, self.x, self.windows, self.classes, precision="float64")
        self.aims = objectives(self.found, self.windows, range(self.classes))
        self.supervoxels = self.divided("cubes", count)

    def divided(self, kind, count=12):
        names = [f"class {index}" for index in range(self.classes)]
        return make_supervoxels(kind, self.x.numpy(), self.found.labels, names, count=count)

    def explained(self, method="kernelshap", **options):
        options = {"supervoxels": self.supervoxels, "precision": "float64", "batch_size": 4, **options}
        if method == "kernelshap":
            options = {"kind": "cubes", **options}
        if "truth" in options:
            options["segmentation"] = self.found
        found = attribute(self.network, self.x, self.windows, self.aims, method=method, **options)
        found = {one.class_index: one for one in found}
        # Every class of the prediction, or a loop over the answer would say nothing.
        assert set(found) == {aim.class_index for aim in self.aims if aim.voxels}
        return found

    def value(self, x, index):
        """F_c of any volume, in the plainest way."""
        clean, now = (
            stitched_logits(self.network, one, self.windows, self.classes, precision="float64") for one in (self.x, x)
        )
        return float(aggregated(now, index, "sum", clean))

    def game(self, index):
        """The game over the whole scan, every coalition predicted anew."""
        labels = torch.from_numpy(self.supervoxels.labels).long()

        def play(kept):
            values = []
            for row in kept:
                keep = torch.from_numpy(np.concatenate([[True], row]))[labels]
                values.append(self.value(self.x * keep, index))
            return np.array(values)[:, None]

        return play


@pytest.mark.parametrize("network", [Linear(), Additive()], ids=["linear", "additive"])
@pytest.mark.parametrize("scope", ["window", "scan"])
def test_networks_without_interactions_have_their_closed_form_values(network, scope):
    # Alone or with others, a supervoxel adds the same: its Shapley value is F(x) - F(x without it), over many windows.
    case = Case(network)
    assert len(case.windows) > 1
    for index, one in case.explained(scope=scope, samples=60, tolerance=0.0).items():
        for number in range(1, len(case.supervoxels.names) + 1):
            without = case.x * (torch.from_numpy(case.supervoxels.labels) != number)
            expected = case.value(case.x, index) - case.value(without, index)
            assert one.supervoxels.values[number - 1] == pytest.approx(expected, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("scope", ["window", "scan"])
def test_exact_values_equal_enumeration_of_the_undivided_prediction(scope):
    case = Case(Smooth(seed=2), shape=(14, 9, 13), window=(10, 9, 10), count=6)
    assert len(case.windows) > 1
    for index, one in case.explained(scope=scope, estimator="exact").items():
        expected = exact(case.game(index), len(case.supervoxels.names))
        assert np.allclose(one.supervoxels.values, expected.values[:, 0], rtol=1e-8, atol=1e-8)
        assert one.supervoxels.full == pytest.approx(float(expected.full[0]))
        assert one.supervoxels.empty == pytest.approx(float(expected.empty[0]))


@pytest.mark.parametrize("scope", ["window", "scan"])
def test_values_sum_to_f_of_the_scan_minus_f_of_air(scope):
    case = Case(Smooth(seed=3))
    for index, one in case.explained(scope=scope, samples=30).items():
        air = case.value(torch.zeros_like(case.x), index)
        change = case.value(case.x, index) - air
        assert one.supervoxels.values.sum() == pytest.approx(change, rel=1e-9)
        assert one.supervoxels.empty == pytest.approx(air, rel=1e-9)


def test_each_voxel_has_its_supervoxels_value():
    case = Case(Smooth(seed=3))
    for one in case.explained(samples=30).values():
        values = one.full(case.x.shape)
        for number in range(1, len(case.supervoxels.names) + 1):
            inside = values[case.supervoxels.labels == number]
            assert np.allclose(inside, one.supervoxels.values[number - 1], rtol=1e-6)


@pytest.fixture(scope="module")
def many_windows():
    """A case of several windows with known Shapley values."""
    case = Case(Smooth(seed=2), shape=(20, 10, 20), window=(12, 10, 12), count=18)
    case.truth = case.explained(estimator="exact", batch_size=32)
    assert len(case.windows) >= 4
    return case


def test_games_within_windows_are_nearer_to_the_truth_with_fewer_passes(many_windows):
    case, truth = many_windows, many_windows.truth
    errors, passes = {}, {}
    for scope in ("window", "scan"):
        errors[scope], passes[scope] = [], 0
        for seed in range(3):
            count = PassCount()
            found = case.explained(scope=scope, samples=48, seed=seed, passes=count)
            errors[scope] += [
                np.abs(one.supervoxels.values - truth[index].supervoxels.values).mean() for index, one in found.items()
            ]
            passes[scope] += count.forward
    assert passes["window"] < passes["scan"]
    assert np.mean(errors["window"]) < 0.7 * np.mean(errors["scan"])


def test_standard_errors_hold_over_many_windows(many_windows):
    case, truth = many_windows, many_windows.truth
    for scope in ("window", "scan"):
        scores = []
        for seed in range(3):
            for index, one in case.explained(scope=scope, samples=60, seed=seed).items():
                gap = one.supervoxels.values - truth[index].supervoxels.values
                scores.append(gap[one.supervoxels.errors > 0] / one.supervoxels.errors[one.supervoxels.errors > 0])
        assert 0.2 < np.sqrt(np.mean(np.square(np.concatenate(scores)))) < 1.3, scope


def test_one_pass_serves_every_class():
    case = Case(Smooth(seed=3))
    counts = []
    for classes in (range(4), [next(aim.class_index for aim in case.aims if len(aim.windows) == len(case.windows))]):
        case.aims = objectives(case.found, case.windows, classes)
        counts.append(PassCount())
        case.explained(samples=30, passes=counts[-1])
    assert counts[0].forward == counts[1].forward > 0
    assert counts[0].backward == 0


def test_one_class_alone_has_the_same_values_as_with_others():
    case = Case(Smooth(seed=3))
    together = case.explained(samples=30, estimator="regression")
    index = next(aim.class_index for aim in case.aims if len(aim.windows) == len(case.windows))
    case.aims = objectives(case.found, case.windows, [index])
    alone = case.explained(samples=30, estimator="regression")[index]
    assert np.allclose(alone.supervoxels.values, together[index].supervoxels.values, rtol=1e-9)


def test_only_windows_that_can_change_a_class_are_run():
    x = torch.full((40, 12, 12), 0.1, dtype=torch.float64)
    x[1:5, 2:6, 3:7] = 0.95
    case = Case(GreyLevels(), window=(16, 12, 12), x=x, count=10)
    case.aims = objectives(case.found, case.windows, [1])
    assert len(case.windows) == 3
    assert len(case.aims[0].windows) == 1
    passes = PassCount()
    case.network.calls.clear()
    (one,) = case.explained("occlusion", passes=passes).values()
    held = np.unique(case.supervoxels.labels[case.windows.inside(case.aims[0].windows[0])[0]])
    assert sum(case.network.calls) == passes.forward == len(held) + 1
    outside = np.setdiff1d(np.arange(1, len(case.supervoxels.names) + 1), held)
    assert outside.size
    assert np.array_equal(one.supervoxels.values[outside - 1], np.zeros(len(outside)))


def test_windows_without_a_removed_supervoxel_are_not_run_again():
    case = Case(Smooth(seed=1), shape=(40, 9, 9), window=(12, 9, 9), count=8)
    values = MaskedValues(
        stitched_of(case.network, case.x, case.windows, precision="float64"), case.aims, case.supervoxels
    )
    everyone = np.ones((1, len(case.supervoxels.names)), dtype=bool)
    values.of_scan(everyone)
    before = values.passes.forward
    assert before == len(values.relevant)
    without = everyone.copy()
    without[0, 0] = False
    changed = values.of_scan(without)[0]
    touched = [index for index, players in values.players.items() if 1 in players]
    assert values.passes.forward - before == len(touched) < len(values.relevant)
    removed = case.x * (torch.from_numpy(case.supervoxels.labels) != 1)
    assert changed == pytest.approx([case.value(removed, aim.class_index) for aim in case.aims])


def test_supervoxels_of_air_cost_nothing_and_are_worth_nothing():
    x = torch.rand(SHAPE, dtype=torch.float64)
    x[10:] = 0
    case = Case(Smooth(seed=2), x=x)
    values = MaskedValues(stitched_of(case.network, x, case.windows, precision="float64"), case.aims, case.supervoxels)
    empty = [number for number in range(1, 13) if not x[torch.from_numpy(case.supervoxels.labels) == number].any()]
    assert empty
    assert not set(empty) & set(values.active)
    for one in case.explained(samples=30).values():
        assert not one.supervoxels.values[np.array(empty) - 1].any()


def test_f_of_any_volume_is_that_of_the_undivided_prediction():
    case = Case(Smooth(seed=4))
    values = LinearValues(stitched_of(case.network, case.x, case.windows, precision="float64", batch_size=3), case.aims)
    changed = case.x.clone()
    changed[3:9] = 0
    assert values.of_volume(changed) == pytest.approx([case.value(changed, aim.class_index) for aim in case.aims])
    assert values.of_volume(case.x) == pytest.approx([aim.value for aim in case.aims])


def test_occlusion_agrees_with_captums_feature_ablation():
    captum = pytest.importorskip("captum.attr")
    case = Case(Smooth(seed=5), shape=(9, 10, 11), window=(9, 10, 11))
    fixed = case.network(case.x[None, None])[0]
    for index, one in case.explained("occlusion").items():
        ablation = captum.FeatureAblation(
            lambda batch, index=index: torch.stack([aggregated(v, index, "sum", fixed) for v in case.network(batch)])
        )
        mask = torch.from_numpy(case.supervoxels.labels - 1).long()[None, None]
        theirs = ablation.attribute(case.x[None, None], baselines=0.0, feature_mask=mask)[0, 0]
        assert np.allclose(one.values, theirs.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", ["dice", "soft-dice", "false-positive-volume"])
def test_values_of_the_whole_prediction_equal_their_plain_computation(value):
    case = Case(Smooth(seed=6), shape=(14, 9, 13), window=(10, 9, 10), count=4)
    truth = np.roll(case.found.labels, 2, axis=0)
    labels = torch.from_numpy(case.supervoxels.labels).long()

    def plain(kept, index):
        keep = torch.from_numpy(np.concatenate([[True], kept]))[labels]
        logits = stitched_logits(case.network, case.x * keep, case.windows, case.classes, precision="float64")
        said, real = (logits.argmax(0) == index).numpy(), truth == index
        if value == "false-positive-volume":
            return 0.5 * (said & ~real).sum()
        said = said if value == "dice" else logits.softmax(0)[index].numpy()
        return 2 * (said * real).sum() / (said.sum() + real.sum())

    found = case.explained(value=value, truth=truth, spacing=(500.0, 1.0, 1.0), estimator="exact")
    for index, one in found.items():
        expected = exact(lambda kept, index=index: np.array([[plain(row, index)] for row in kept]), 4)
        assert np.allclose(one.supervoxels.values, expected.values[:, 0], atol=1e-9)


@pytest.mark.parametrize(("value", "confirmed"), [("true-positive", True), ("false-positive", False)])
def test_confirmed_and_denied_voxels_have_games_of_their_own(value, confirmed):
    case = Case(Smooth(seed=6))
    truth = np.roll(case.found.labels, 1, axis=0)
    for index, one in case.explained(value=value, truth=truth, samples=30).items():
        logits = stitched_logits(case.network, case.x, case.windows, case.classes, precision="float64")
        inside = (case.found.labels == index) & ((truth == index) == confirmed)
        assert one.supervoxels.full == pytest.approx(float(logits[index][torch.from_numpy(inside)].sum()), rel=1e-9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 5}, "5 samples are too few for 12 supervoxels: give at least 13 with --samples"),
        ({"samples": 5, "scope": "scan"}, "5 samples are too few for 12 supervoxels"),
        ({"scope": "galaxy"}, "unknown scope 'galaxy': use window, scan"),
        ({"estimator": "magic"}, "unknown estimator"),
        ({"ridge": 1.0}, "a ridge penalty needs a regression; give --estimator regression"),
        ({"tolerance": 2.0}, "tolerance of KernelSHAP is 2: it must be 0 to 1"),
        ({"ridge": -1.0}, "ridge of KernelSHAP is -1: it must be at least 0"),
        ({"value": "beauty"}, "unknown value function 'beauty'"),
        ({"value": "true-positive"}, "needs the truth; give it with --truth"),
        ({"value": "dice"}, "needs the first prediction or the truth"),
        ({"value": "dice", "truth": np.zeros((3, 3, 3), int)}, r"the truth has shape \(3, 3, 3\)"),
        ({"supervoxels": Supervoxels(np.ones((2, 2, 2), np.int32), ("a", "b"))}, "supervoxel map has shape"),
    ],
)  # fmt: skip
def test_games_that_cannot_be_played_are_refused_with_a_sentence(options, words):
    with pytest.raises(InputError, match=words):
        Case(Additive()).explained(**options)


def test_an_absent_class_has_no_attribution_and_costs_nothing():
    case = Case(GreyLevels())
    case.aims = objectives(case.found, case.windows, [3])
    passes = PassCount()
    assert case.explained(passes=passes) == {}
    assert case.explained("occlusion", passes=passes) == {}
    assert case.explained("gradcam", passes=passes) == {}
    assert passes.forward == 0


def run(*words):
    return main([str(word) for word in words])


@pytest.mark.parametrize(
    "words",
    [
        ["--method", "kernelshap"],
        ["--method", "kernelshap", "--supervoxels", "cubes", "--supervoxel-count", "30", "--samples", "80"],
        ["--method", "kernelshap", "--value", "dice", "--samples", "20"],
        ["--method", "occlusion", "--supervoxels", "slic", "--supervoxel-count", "30"],
        ["--method", "kernelshap", "--supervoxels", "organ-aware", "--supervoxel-count", "30", "--scope", "scan", "--samples", "80"],
        ["--method", "kernelshap", "--supervoxels", "regions"],
        ["--method", "gradcam"],
    ],
)  # fmt: skip
def test_the_command_explains_end_to_end(tmp_path, words):
    case, model = write_case(tmp_path)
    mask = np.zeros((24, 20, 22), np.uint8)
    mask[:12] = 1
    write_volume(Volume(mask, Grid(mask.shape, np.diag([2.0, 2.0, 2.0, 1.0]))), tmp_path / "mask.nii.gz")
    assert run("explain", case, "--model", model, "--out", tmp_path / "out", *words, "--roi",
               f"half={tmp_path / 'mask.nii.gz'}", "--progress", "none") == 0  # fmt: skip
    found = Explanation.load(tmp_path / "out")
    assert found.explained == ("one", "two")
    assert np.allclose(found.importance.matrix("mass")[:, :3].sum(axis=1), 1.0)
    assert not (tmp_path / "out" / "attributions" / "game.json").exists()
    entry = found.document["classes"][0]
    if "kernelshap" in words:
        assert entry["efficiency_gap"] < 1e-6
        table = np.genfromtxt(
            tmp_path / "out" / "attributions" / "one_supervoxels.csv",
            delimiter=",",
            names=True,
            dtype=None,
            encoding="utf-8",
        )
        assert table["value"].sum() == pytest.approx(entry["full_value"] - entry["removed_value"], rel=1e-6)
        assert (table["standard_error"] >= 0).all()
        labels = tmp_path / "out" / "model_grid" / "supervoxels.nii.gz"
        assert labels.is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "kernelshap", "--supervoxels", "blobs"], "unknown supervoxels 'blobs'"),
        (["--method", "kernelshap", "--supervoxels", "cubes", "--samples", "20"], "samples are too few for"),
        (["--method", "occlusion", "--supervoxels", "cubes", "--supervoxel-count", "1"], "supervoxel_count of occlusion is 1"),
        (["--method", "kernelshap", "--supervoxels", "regions"], "need at least one region; give --roi"),
        (["--method", "kernelshap", "--ridge", "-1"], "ridge of KernelSHAP is -1: it must be at least 0"),
        (["--method", "kernelshap", "--supervoxels", "cubes", "--estimator", "exact"], "use at most 12 supervoxels"),
        (["--method", "kernelshap", "--value", "true-positive"], "give it with --truth"),
        (["--method", "gradcam", "--layer", "nowhere"], "the network has no layer 'nowhere'"),
        (["--method", "kernelshap", "--truth", "missing.nii.gz"], "missing.nii.gz"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_with_exit_code_2(tmp_path, capsys, words, message):
    case, model = write_case(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert run("explain", case, "--model", model, "--out", tmp_path / "out", *words, "--progress", "none") == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_killed_game_goes_on_from_the_coalitions_it_has_played(tmp_path):
    case, model = write_case(tmp_path)
    words = ["explain", str(case), "--model", str(model), "--method", "kernelshap", "--supervoxels", "cubes",
             "--supervoxel-count", "30", "--samples", "150", "--tolerance", "0", "--resume", "--progress", "json"]  # fmt: skip
    command = [*warm.python(), str(ROOT / "Agg2ExpLib" / "cli" / "__main__.py"), *words, "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            event = json.loads(line)
            # From the first standard error on it is known how many there will be.
            told = event["stage"] == "attributions" and event["detail"].startswith("standard error")
            if told and event["done"] > 0.4 * event["total"]:
                break
        process.send_signal(signal.SIGKILL)
        process.stdout.read()
    assert not (tmp_path / "out").exists()
    assert run(*words, "--out", tmp_path / "out") == 0
    assert run(*words, "--out", tmp_path / "whole") == 0
    resumed, whole = (Explanation.load(tmp_path / name) for name in ("out", "whole"))
    for name in whole.explained:
        assert np.array_equal(resumed.attribution(name).voxels, whole.attribution(name).voxels)
    passes = [found.document["network_passes"]["attribution_forward"] for found in (resumed, whole)]
    assert 0 < passes[0] < 0.7 * passes[1]


def test_the_estimate_encloses_what_games_need(tmp_path):
    from Agg2ExpLib.estimate import estimate
    from Agg2ExpLib.explanation import explain
    from Agg2ExpLib.models import load_model
    from Agg2ExpLib.request import request_of

    case, folder = write_case(tmp_path)
    model = load_model(folder)
    for number, settings in enumerate(
        (
            request_of(method="kernelshap", device="cpu"),
            request_of(method="kernelshap", device="cpu", supervoxels="cubes", supervoxel_count=30, samples=50),
            request_of(method="occlusion", device="cpu"),
        )
    ):
        found = estimate(case, model, settings)
        passes = explain(case, model, tmp_path / str(number), settings).document["network_passes"]
        assert found.passes_at_least <= sum(passes.values()) <= found.passes_at_most
        assert 0 < found.seconds_at_least <= found.seconds_at_most
