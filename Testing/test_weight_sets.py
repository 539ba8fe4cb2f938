"""Checkpoints of training programs: the network's weights are found under any wrapping and prefix, and what was found is said."""

import pytest
import torch
from monai.networks.nets import SwinUNETR

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models import load_model
from Agg2ExpLib.models.weight_sets import choose, sets_of

torch.set_num_threads(1)
SAID = {
    "labels": ("background", "heart", "aorta"),
    "spacing": (1.5, 1.5, 1.5),
    "window": (64, 32, 32),
    "intensity_range": (-1024.0, 1024.0),
}
NAMES = ["model.0.weight", "model.1.weight", "head.bias"]


def weights(value=1.0, prefix=""):
    return {prefix + name: torch.full((2,), value) for name in NAMES}


def chosen(content, **options):
    return choose(sets_of(content), NAMES, "a.pt", **options)


def refusal(call, *arguments, **options):
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "model.", "_model.", "backbone.", "net.", "module._orig_mod.", "student.network.", "a_b.c."],
)
@pytest.mark.parametrize(
    "wrapper", [(), ("state_dict",), ("network_weights",), ("state", "model"), ("ema_state_dict",)]
)
def test_a_network_is_found_under_any_wrapping_and_prefix(wrapper, prefix):
    content = weights(prefix=prefix)
    for key in reversed(wrapper):
        content = {key: content, "epoch": 3}
    found = chosen(content)
    assert list(found.tensors) == NAMES
    assert found.notes == ()
    assert found.name == (".".join([*wrapper, *([prefix[:-1]] if prefix else [])]) or "weights")


def test_tensors_that_are_not_the_networks_are_left_out_and_named():
    found = chosen({"state_dict": {**weights(prefix="model."), "loss_function.dice.class_weight": torch.ones(3)}})
    assert list(found.tensors) == NAMES
    assert "loss_function.dice.class_weight" in found.notes[0]
    found = chosen({"n_averaged": torch.tensor(3), **weights(prefix="module.")})
    assert list(found.tensors) == NAMES and "n_averaged" in found.notes[0]


def test_tensors_without_a_prefix_stay_so_that_a_network_that_does_not_want_them_says_so():
    assert "extra.weight" in chosen({**weights(), "extra.weight": torch.ones(1)}).tensors


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict_ema": weights(2), "state_dict": weights(1)},
        {"averaged": weights(2), "network": weights(1), "optimizer": weights(7)},
        {"state_dict": {**weights(2, "ema_model."), **weights(1, "model.")}},
        {"state_dict": {**weights(1), **weights(2, "ema_model.")}},
        {"ema": {"module": weights(2)}, "model": weights(1)},
    ],
)
def test_of_several_sets_the_trained_one_is_taken_which_is_said_and_another_can_be_chosen(content):
    found = chosen(content)
    assert list(found.tensors) == NAMES
    assert found.tensors["head.bias"][0] == 1
    (note,) = found.notes
    assert "was taken" in note and "--weights" in note
    other = next(name for name in note.split("'") if "ema" in name or "averaged" in name)
    assert chosen(content, wanted=other).tensors["head.bias"][0] == 2


def test_a_set_that_is_not_there_is_answered_with_those_that_are():
    text = refusal(chosen, {"state_dict": weights(), "ema": weights(2)}, wanted="swa")
    assert "'swa'" in text and "'state_dict'" in text and "'ema'" in text


def test_what_the_models_own_files_name_comes_first():
    content = {"model": weights(1), "best_model": weights(3)}
    assert chosen(content, preferred="best_model").tensors["head.bias"][0] == 3


def test_an_optimizer_is_no_set_of_weights():
    assert list(sets_of({"net": weights(), "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}})) == ["net"]


@pytest.mark.parametrize("key", ["optimal_model", "best_loss_weights", "model_scaler", "lossless", "schedule_free"])
def test_a_name_that_only_contains_a_word_of_the_training_is_taken(key):
    assert chosen({key: weights(3)}).tensors["head.bias"][0] == 3
    (note,) = chosen({"last": weights(1), key: weights(2)}).notes
    assert f"also holds '{key}'" in note


@pytest.mark.parametrize(
    "key", ["optimizer_state", "optimizer_states", "lr_schedulers", "grad_scaler_state", "loss_state_dict"]
)
def test_what_training_programs_keep_of_the_training_is_no_set_of_weights(key):
    assert list(sets_of({key: {"a": torch.ones(1)}, "net": weights()})) == ["net"]


def test_the_state_of_many_parameters_hides_no_weights():
    state = {"state": {n: {"exp_avg": torch.ones(1)} for n in range(70)}, "param_groups": []}
    assert list(sets_of({"generator_adam": state, "net": weights()})) == ["net"]


@pytest.mark.parametrize("prefix", ["swin_", "net/", "model:"])
def test_a_prefix_without_a_dot_is_found_where_all_names_follow_it(prefix):
    found = chosen({"state_dict": weights(4, prefix)})
    assert list(found.tensors) == NAMES
    assert found.name == f"state_dict.{prefix[:-1]}"


def test_a_dotted_prefix_comes_before_another_mark():
    found = chosen({**weights(1, "net."), **weights(2, "net_")})
    assert found.tensors["head.bias"][0] == 1 and "net_head.bias" in found.notes[0]


def test_a_set_is_found_by_a_part_of_its_name():
    content = {"state_dict": weights(1), "ema": {"shadow": weights(2)}}
    assert chosen(content, wanted="ema").tensors["head.bias"][0] == 2
    assert "several sets are called 'ema'" in refusal(
        chosen, {"ema": {"shadow": weights(), "other": weights()}}, wanted="ema"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"ema": {"shadow_params": [torch.ones(1)] * 3}}, "'ema.shadow_params' (list with 3 tensors)"),
        ({"a": {"b": {"c": {"d": {"e": weights()}}}}}, "'a.b.c.d.e' (mapping with 3 tensors)"),
        ({"states": ({"w": torch.ones(1)}, 3)}, "'states.0' (mapping with 1 tensor)"),
        (torch.ones(2), "one tensor without a name"),
        ({"epoch": 3}, "no tensor, only 'epoch'"),
        ({}, "no tensor"),
    ],
)
def test_a_file_without_named_weights_says_what_it_holds_instead(content, told, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    text = refusal(load_model, tmp_path / "a.pt")
    assert told in text and "save the network's state_dict()" in text


@pytest.fixture(scope="module")
def swin():
    torch.manual_seed(0)
    return SwinUNETR(
        in_channels=1, out_channels=3, feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 2, 3, 4)
    ).state_dict()


def test_a_whole_swin_unetr_is_not_called_an_encoder(swin, tmp_path):
    torch.save({"my" + name: tensor for name, tensor in swin.items()}, tmp_path / "a.pt")
    text = refusal(load_model, tmp_path / "a.pt")
    assert "pretrained encoder" not in text and "myswinViT" in text


@pytest.mark.parametrize("prefix", ["_model.", "backbone.", "module.", "swin_", "net/"])
def test_a_bare_checkpoint_of_any_program_is_loaded(swin, prefix, tmp_path):
    content = {"state_dict": {prefix + name: tensor for name, tensor in swin.items()}, "hyper_parameters": {"lr": 1e-4}}
    torch.save(content, tmp_path / "a.ckpt")
    network = load_model(tmp_path / "a.ckpt", **SAID).network
    assert all(torch.equal(tensor, swin[name]) for name, tensor in network.state_dict().items())


def test_a_bare_checkpoint_says_which_weights_were_taken(swin, tmp_path):
    averaged = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in swin.items()}
    torch.save({"state_dict": swin, "state_dict_ema": averaged}, tmp_path / "a.pt")
    first = load_model(tmp_path / "a.pt", **SAID)
    second = load_model(tmp_path / "a.pt", **SAID, weights="state_dict_ema")
    name = "out.conv.conv.bias"
    assert torch.equal(second.network.state_dict()[name], first.network.state_dict()[name] + 1)
    assert any("'state_dict' was taken" in line for line in first.card.assumptions)
    assert first.sha256 != second.sha256


def test_a_checkpoint_of_another_network_lists_what_it_holds(tmp_path):
    torch.save({"encoder": {"a.weight": torch.ones(1)}, "decoder": {"b.weight": torch.ones(1)}}, tmp_path / "a.pt")
    text = refusal(load_model, tmp_path / "a.pt")
    assert "'encoder'" in text and "b.weight" in text and "not a Swin UNETR" in text
