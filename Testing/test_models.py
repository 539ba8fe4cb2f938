"""Model cards, model folders, bare Swin UNETR checkpoints and the other networks a card may name."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks import nets
from safetensors.torch import save_file

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.models import (
    ModelCard,
    SegmentationModel,
    bundled_models,
    load_model,
    loading,
    read_card,
    read_labels,
    save_model,
    write_model_folder,
)
from Agg2ExpLib.models.swin_unetr_checkpoint import infer_architecture, normalise_names

WINDOW = (64, 32, 32)
LABELS = ("background", "heart", "aorta")
SAID = {"labels": LABELS, "spacing": (2.0, 2.0, 3.0), "window": WINDOW, "intensity_range": (-500.0, 500.0)}
SWIN_ARGUMENTS = {"in_channels": 1, "out_channels": 3, "feature_size": 12, "use_v2": True, "window_size": 4}
SMALL_NETWORKS = {
    "SwinUNETR": {"in_channels": 1, "out_channels": 3, "feature_size": 12, "window_size": 2},
    "UNet": {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 3,
        "channels": [4, 8],
        "strides": [2],
        "norm": ["batch", {"affine": True}],
    },
    "SegResNet": {"out_channels": 3, "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
    "DynUNet": {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 3,
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [4, 8, 8],
    },
    "UNETR": {
        "in_channels": 1,
        "out_channels": 3,
        "img_size": list(WINDOW),
        "feature_size": 2,
        "hidden_size": 12,
        "mlp_dim": 12,
        "num_heads": 2,
    },
    "BasicUNet": {"in_channels": 1, "out_channels": 3, "features": [4, 4, 4, 4, 4, 4]},
}


def network_of(name="SwinUNETR", **arguments):
    torch.manual_seed(1)
    return getattr(nets, name)(**arguments).eval()


def card_of(**changes) -> ModelCard:
    architecture = {"name": "SwinUNETR", "arguments": SWIN_ARGUMENTS}
    return ModelCard(**{"name": "demo", "labels": LABELS, "window": WINDOW, "architecture": architecture, **changes})


def image():
    return torch.rand((1, 1, *WINDOW), generator=torch.Generator().manual_seed(2))


def logits(network):
    with torch.no_grad():
        return network(image())


def refusal(action, *arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks this small are slower on several threads, by far when the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def swin(one_thread):
    return network_of(**SWIN_ARGUMENTS)


@pytest.fixture(scope="module")
def answer(swin):
    return logits(swin)


@pytest.fixture
def checkpoint(swin, tmp_path):
    torch.save(swin.state_dict(), tmp_path / "swin.pt")
    return tmp_path / "swin.pt"


@pytest.fixture
def folder(swin, tmp_path):
    return write_model_folder(tmp_path / "demo", swin.state_dict(), card_of())


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# The card ------------------------------------------------------------------------------------------------------------


def test_a_card_takes_its_colours_from_anatomy_unless_told():
    assert card_of().colours == tuple(structure(label).colour for label in LABELS)
    assert card_of(colours=[[0, 0, 0], [1, 2, 3], [4, 5, 6]]).colours[1] == (1, 2, 3)


def test_a_card_survives_the_way_to_json_and_back():
    card = card_of(
        spacing=(1.5, 1.5, 3.0),
        orientation="lps",
        intensity_range=(-1000, 400),
        overlap=0.5,
        blending="constant",
        licence="CC-BY-4.0",
        description="für Tests",
        version="2.1",
        extra={"seed": 3, "dice": [0.9, 0.8]},
    )
    again = ModelCard.from_metadata(json.loads(json.dumps(card.to_metadata())), "metadata.json")
    assert again == card
    assert again.orientation == "LPS"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "two\nlines"),
        ("labels", ["background"]),
        ("labels", "background"),
        ("labels", ["background", 3, "aorta"]),
        ("labels", ["background", "  ", "aorta"]),
        ("labels", ["background", "x" * 200, "aorta"]),
        ("labels", ["background", "heart", "heart"]),
        ("labels", ["background", "left lung", "left/lung"]),
        ("labels", ["background", "heart", "Heart"]),
        ("colours", [[0, 0, 0]]),
        ("colours", [[0, 0, 0], [0, 0, 256], [0, 0, 0]]),
        ("spacing", (1.5, 1.5)),
        ("spacing", (1.5, 1.5, 0)),
        ("spacing", (1.5, 1.5, -1)),
        ("spacing", (1.5, 1.5, float("nan"))),
        ("spacing", (1.5, 1.5, 1e9)),
        ("spacing", ("1", "1", "1")),
        ("orientation", "RAA"),
        ("orientation", "RA"),
        ("orientation", 3),
        ("intensity_range", (400, -1000)),
        ("intensity_range", (float("-inf"), 0)),
        ("intensity_range", (0, 1e30)),
        ("window", (96, 96)),
        ("window", (96, 96, 96.0)),
        ("window", (96, 96, -96)),
        ("window", (96, 96, 100)),
        ("window", (32, 32, 32)),
        ("window", (1024, 1024, 1024)),
        ("overlap", 1.0),
        ("overlap", True),
        ("blending", "median"),
        ("extra", {"seed": float("nan")}),
        ("extra", {"network": object()}),
        ("licence", 3),
    ],
)
def test_a_field_that_cannot_be_used_is_named(field, value):
    assert refusal(card_of, **{field: value}).startswith(f"{field}: ")


def test_path_separators_are_tolerated_in_labels():
    assert card_of(labels=("background", "lung/left", "lung/right")).labels[1] == "lung/left"


@given(st.lists(st.text(max_size=20), max_size=6))
def test_labels_are_either_refused_in_words_or_kept_as_they_are(labels):
    try:
        card = ModelCard(name="demo", labels=labels)
    except InputError as error:
        assert str(error).startswith("labels: ")
    else:
        assert card.labels == tuple(labels)


@pytest.mark.parametrize(
    "architecture",
    [
        {"name": "os.system", "arguments": {}},
        {"name": "SwinUNETR", "arguments": {}, "_target_": "os.system"},
        {"name": "UNet", "arguments": {"act": "$__import__('os').system('true')"}},
        {"name": "UNet", "arguments": {"act": "@network"}},
        {"name": "UNet", "arguments": {"channels": [10**9]}},
        {"name": "UNet", "arguments": {"dropout": float("inf")}},
        {"name": "UNet", "arguments": {"channels": [1] * 10_000}},
        {"name": "UNet", "arguments": {"act": [[[[[[["relu"]]]]]]]}},
        {"name": "UNet", "arguments": {"__init__()": 1}},
        {"name": "SwinUNETR", "arguments": {"depths": [4000, 2, 2, 2]}},
        {"name": "UNet", "arguments": {"spatial_dims": 2}},
        {"name": "UNet", "arguments": {"in_channels": 4}},
        "SwinUNETR",
    ],
)
def test_an_architecture_is_a_known_name_and_bounded_plain_values(architecture):
    assert refusal(card_of, architecture=architecture).startswith("architecture: ")


def test_as_many_labels_as_classes_are_needed():
    text = refusal(card_of, labels=("background", "heart"))
    assert "2 names" in text and "3 classes" in text


def test_a_card_of_a_newer_format_asks_for_an_update():
    metadata = card_of().to_metadata()
    metadata["agg2exp"]["format_version"] = 99
    assert "newer" in refusal(ModelCard.from_metadata, metadata, "metadata.json")


@pytest.mark.parametrize("metadata", [[], "text", {"agg2exp": 3}, {"agg2exp": {"format_version": "1"}}])
def test_metadata_of_another_shape_is_refused(metadata):
    assert refusal(ModelCard.from_metadata, metadata, "the/metadata.json").startswith("the/metadata.json: ")


def test_an_error_in_a_card_names_the_file_and_the_field(folder):
    path = folder / "configs/metadata.json"
    edit(path, lambda content: content["agg2exp"].update(overlap=7))
    assert refusal(read_card, folder).startswith(f"{path}: overlap: ")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b'{"a": NaN}', b" " * 2_000_000, b"[" * 100_000])
def test_a_metadata_file_that_is_not_small_valid_json_is_refused(tmp_path, content):
    (tmp_path / "metadata.json").write_bytes(content)
    assert "metadata.json" in refusal(read_card, tmp_path)


def test_cards_are_read_without_torch(folder):
    code = (
        "import sys; sys.modules['torch'] = sys.modules['monai'] = None; import Agg2ExpLib.models.card as card; "
        "print(card.read_card(sys.argv[1]).name)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "demo", done.stderr


def test_labels_are_read_from_a_json_list(tmp_path):
    (tmp_path / "labels.json").write_text('["background", "heart"]')
    assert read_labels(tmp_path / "labels.json") == ("background", "heart")


@pytest.mark.parametrize("content", ['{"0": "background"}', '["background", 3]', "background", "[]"])
def test_a_label_file_of_another_shape_is_refused(tmp_path, content):
    (tmp_path / "labels.json").write_text(content)
    assert "labels.json" in refusal(read_labels, tmp_path / "labels.json")


# Model folders -------------------------------------------------------------------------------------------------------


def test_a_folder_gives_back_the_network_bit_for_bit(folder, answer):
    model = load_model(folder)
    assert model.card == card_of()
    assert torch.equal(logits(model), answer)
    assert model.source == folder / "models/model.safetensors"
    assert not model.network.training
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_half_precision_halves_the_file_and_hardly_moves_the_logits(folder, swin, answer, tmp_path):
    half = write_model_folder(tmp_path / "half", swin.state_dict(), card_of(), dtype="float16")
    sizes = [(place / "models/model.safetensors").stat().st_size for place in (half, folder)]
    assert sizes[0] < 0.55 * sizes[1]
    model = load_model(half)
    assert next(model.network.parameters()).dtype == torch.float32
    difference = (logits(model) - answer).abs().max()
    assert 0 < difference < 0.02 * answer.abs().max()


def test_weights_beyond_half_precision_are_not_stored_as_infinite(tmp_path):
    text = refusal(write_model_folder, tmp_path / "m", {"w": torch.tensor([1e6])}, card_of(), dtype="float16")
    assert "float16" in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_every_network_of_the_table_can_be_saved_and_loaded(tmp_path, name):
    network = network_of(name, **SMALL_NETWORKS[name])
    card = card_of(architecture={"name": name, "arguments": SMALL_NETWORKS[name]})
    model = load_model(write_model_folder(tmp_path / name, network.state_dict(), card))
    assert torch.equal(logits(model), logits(network))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model."])
def test_a_network_whose_own_names_begin_like_a_wrapper_is_recognised(tmp_path, prefix):
    network = network_of("UNet", **SMALL_NETWORKS["UNet"])
    assert all(name.startswith("model.") for name in network.state_dict())
    card = card_of(architecture={"name": "UNet", "arguments": SMALL_NETWORKS["UNet"]})
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    assert torch.equal(logits(load_model(write_model_folder(tmp_path / "m", state, card))), logits(network))


def test_options_replace_what_the_card_says(folder):
    card = load_model(folder, labels=["a", "b", "c"], spacing=(2, 2, 2), window=(32, 64, 32), overlap=0).card
    assert card == replace(
        card_of(), labels=("a", "b", "c"), colours=(), spacing=(2, 2, 2), window=(32, 64, 32), overlap=0
    )


def test_loading_a_model_leaves_the_random_numbers_alone(folder):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_model(folder)
    assert torch.equal(torch.rand(1), expected)


def test_a_model_moves_to_another_precision(folder):
    model = load_model(folder)
    moved = model.to("cpu", torch.float64)
    assert moved.card == model.card and moved.sha256 == model.sha256
    assert moved(image().double()).dtype == torch.float64


def test_of_several_outputs_the_first_is_the_answer(tmp_path):
    class Supervised(torch.nn.Module):
        def forward(self, x):
            return [x, x[..., ::2]]

    model = SegmentationModel(card_of(), Supervised(), "", tmp_path)
    assert torch.equal(model(image()), image())


def test_replaced_weights_are_noticed(folder, swin):
    other = {name: tensor + 1 for name, tensor in swin.state_dict().items() if tensor.is_floating_point()}
    save_file(other, folder / "models/model.safetensors")
    assert "damaged or replaced" in refusal(load_model, folder)


def test_a_card_that_asks_for_another_network_allocates_nothing(folder, monkeypatch):
    # Layers of this size would take terabytes: only the outline may ever be built.
    huge = {**SWIN_ARGUMENTS, "feature_size": 4092, "depths": [64, 64, 64, 64]}
    edit(
        folder / "configs/metadata.json",
        lambda content: content["agg2exp"].update(architecture={"name": "SwinUNETR", "arguments": huge}),
    )
    monkeypatch.setattr(torch.random, "fork_rng", lambda **_: pytest.fail("the network was really built"))
    assert "these weights do not belong to the model" in refusal(load_model, folder)


def test_a_position_table_of_hundreds_of_gigabytes_is_not_computed(tmp_path):
    window = 48
    arguments = {**SWIN_ARGUMENTS, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]}
    state = network_of(**arguments).state_dict()
    tables = [name for name in state if name.endswith("relative_position_bias_table")]
    state.update({name: torch.zeros((2 * window - 1) ** 3, 1) for name in tables})
    arguments["window_size"] = window
    card = card_of(architecture={"name": "SwinUNETR", "arguments": arguments})
    text = refusal(load_model, write_model_folder(tmp_path / "m", state, card))
    assert "GiB" in text


def test_a_window_that_the_network_cannot_take_is_refused(tmp_path):
    arguments = SMALL_NETWORKS["UNet"]
    card = card_of(architecture={"name": "UNet", "arguments": arguments}, window=(33, 32, 32))
    folder = write_model_folder(tmp_path / "m", network_of("UNet", **arguments).state_dict(), card)
    assert "window of [33, 32, 32]" in refusal(load_model, folder)


def test_arguments_that_monai_refuses_are_reported(tmp_path):
    card = card_of(architecture={"name": "UNet", "arguments": {"no_such_argument": 1}})
    folder = write_model_folder(tmp_path / "m", {"w": torch.ones(1)}, card)
    assert "UNet cannot be built" in refusal(load_model, folder)


def test_a_folder_is_replaced_whole_and_leaves_nothing_beside_it(folder, swin, tmp_path):
    (folder / "old.txt").write_text("old")
    write_model_folder(folder, swin.state_dict(), card_of(name="newer"), readme="# Read me")
    assert read_card(folder).name == "newer"
    assert (folder / "docs/README.md").read_text() == "# Read me"
    assert not (folder / "old.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_a_failed_write_keeps_the_earlier_model(folder, swin, tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("Agg2ExpLib.models.bundle._write_json", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        write_model_folder(folder, swin.state_dict(), card_of(name="newer"))
    assert read_card(folder).name == "demo"
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_a_folder_of_something_else_is_never_replaced(swin, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not a model folder"):
        write_model_folder(tmp_path / "thesis", swin.state_dict(), card_of())
    assert (tmp_path / "thesis/chapter.txt").exists()


def test_a_folder_without_metadata_or_without_weights_is_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "metadata.json" in refusal(load_model, tmp_path / "empty")
    (folder / "models/model.safetensors").unlink()
    assert "no weights" in refusal(load_model, folder)


def test_monai_itself_can_use_the_folder(folder, answer):
    from monai.bundle import ConfigParser
    from monai.transforms import Compose

    parser = ConfigParser()
    parser.read_config(folder / "configs/inference.json")
    parser.read_meta(folder / "configs/metadata.json")
    parser["bundle_root"] = str(folder)
    parser["device"] = "cpu"
    parser.get_parsed_content("load_weights")
    network = parser.get_parsed_content("network")
    assert torch.equal(logits(network), answer)
    assert isinstance(parser.get_parsed_content("preprocessing"), Compose)
    assert tuple(parser.get_parsed_content("inferer").roi_size) == WINDOW


# Bundles of other authors --------------------------------------------------------------------------------------------


@pytest.fixture
def foreign(tmp_path):
    """A bundle as another author would publish it: no section of ours, a pickle, an inference configuration."""
    arguments = SMALL_NETWORKS["SegResNet"]
    folder = tmp_path / "foreign"
    for place in ("configs", "models"):
        (folder / place).mkdir(parents=True)
    torch.save(network_of("SegResNet", **arguments).state_dict(), folder / "models/model.pt")
    metadata = {
        "version": "0.3.0",
        "description": "organs",
        "copyright": "Copyright (c) A. N. Other",
        "network_data_format": {
            "inputs": {"image": {"num_channels": 1, "spatial_shape": list(WINDOW)}},
            "outputs": {"pred": {"channel_def": {str(index): label for index, label in enumerate(LABELS)}}},
        },
    }
    (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    inference = {
        "imports": ["$import os"],
        "device": "$os.mkdir('must-not-run')",
        "network_def": {"_target_": "monai.networks.nets.SegResNet", **arguments},
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "LPS"},
                {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 2.0]},
                {
                    "_target_": "ScaleIntensityRanged",
                    "keys": "image",
                    "a_min": -57,
                    "a_max": 164,
                    "b_min": 0,
                    "b_max": 1,
                    "clip": True,
                },
            ],
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": "$[32, 32, 32]", "overlap": 0.5},
    }
    (folder / "configs/inference.json").write_text(json.dumps(inference))
    return folder


def test_a_bundle_of_another_author_is_understood_from_its_plain_values(foreign):
    model = load_model(foreign)
    card = model.card
    assert (card.name, card.version, card.labels) == ("foreign", "0.3.0", LABELS)
    assert card.window == (32, 32, 32), "that of the inferer, not of the training"
    assert (card.orientation, card.spacing, card.intensity_range) == ("LPS", (1.5, 1.5, 2.0), None)
    assert (card.overlap, card.blending) == (0.5, "constant"), "blending that is not stated is MONAI's default"
    assert [line.split(":")[0] for line in card.assumptions] == ["decision", "modality", "weights"]
    assert torch.equal(logits(model), logits(network_of("SegResNet", **SMALL_NETWORKS["SegResNet"])))


def test_what_a_bundle_does_not_state_is_listed_as_assumed(foreign):
    (foreign / "configs/inference.json").unlink()
    card = read_card(foreign, orientation="LPS")
    told = [line.split(":")[0] for line in card.assumptions]
    assert told == ["spacing", "intensity_range", "overlap", "blending", "window"]


@pytest.mark.parametrize(("part", "option"), [("outputs", "--labels"), ("inputs", "--window")])
def test_what_a_bundle_lacks_is_named_with_its_option(foreign, part, option):
    (foreign / "configs/inference.json").unlink()
    edit(foreign / "configs/metadata.json", lambda content: content["network_data_format"].pop(part))
    assert option in refusal(load_model, foreign)


def test_channels_that_are_not_numbered_from_0_are_refused(foreign):
    edit(
        foreign / "configs/metadata.json",
        lambda content: content["network_data_format"]["outputs"]["pred"].update(channel_def={"1": "a", "2": "b"}),
    )
    assert "number its 2 channels from 0" in refusal(read_card, foreign)


# Bare Swin UNETR checkpoints -----------------------------------------------------------------------------------------


def test_a_bare_checkpoint_gives_back_the_network_and_says_what_it_assumed(checkpoint, answer):
    model = load_model(checkpoint, **SAID)
    assert torch.equal(logits(model), answer)
    card = model.card
    assert (card.name, card.labels, card.window) == ("swin", LABELS, WINDOW)
    assert (card.spacing, card.intensity_range) == ((2.0, 2.0, 3.0), (-500, 500))
    assert [line.partition(":")[0] for line in card.assumptions] == [
        "orientation",
        "the network's downsampling is MONAI's default 'merging', its features normalised",
    ]
    assert load_model(checkpoint, **{**SAID, "spacing": "scan"}).card.spacing is None


@pytest.mark.parametrize("left_out", SAID)
def test_a_bare_checkpoint_without_what_it_cannot_tell_is_refused_and_says_how_to_give_it(checkpoint, left_out):
    text = refusal(load_model, checkpoint, **{name: value for name, value in SAID.items() if name != left_out})
    assert f"give --{left_out.replace('_', '-')} " in text and text.count("--") == 1
    assert "3 outputs" in text and "agg2exp model add remembers it" in text


def test_a_bare_checkpoint_becomes_a_model_folder(checkpoint, answer, tmp_path):
    model = load_model(checkpoint, **SAID)
    again = load_model(save_model(model, tmp_path / "folder"))
    assert again.card == model.card
    assert torch.equal(logits(again), answer)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"out_channels": 2},
        {"out_channels": 5, "use_v2": False},
        {"feature_size": 24},
        {"depths": [1, 2, 3, 1]},
        {"depths": [2, 2, 6, 2], "num_heads": [1, 2, 3, 4]},
        {"num_heads": [2, 4, 8, 16], "feature_size": 24},
        {"num_heads": [6, 6, 6, 6]},
        {"window_size": 7},
        {"window_size": 2, "use_v2": False},
        {"qkv_bias": False},
        {"mlp_ratio": 2.0},
        {"mlp_ratio": 1.5},
        {"patch_norm": True},
    ],
)
def test_every_argument_is_told_from_the_tensors(changes):
    arguments = {
        "patch_size": 2,
        "depths": [2, 2, 2, 2],
        "num_heads": [3, 6, 12, 24],
        "qkv_bias": True,
        "mlp_ratio": 4.0,
        "patch_norm": False,
        **SWIN_ARGUMENTS,
        **changes,
    }
    assert infer_architecture(network_of(**arguments).state_dict(), "a.pt") == {
        "name": "SwinUNETR",
        "arguments": arguments,
    }


def test_head_counts_and_depths_change_the_answer_so_they_must_be_right(tmp_path):
    arguments = {**SWIN_ARGUMENTS, "num_heads": [2, 3, 4, 6], "depths": [1, 3, 2, 1], "window_size": 3}
    network = network_of(**arguments)
    torch.save(network.state_dict(), tmp_path / "a.pt")
    assert torch.equal(logits(load_model(tmp_path / "a.pt", **SAID)), logits(network))


def test_old_names_and_buffers_of_earlier_versions_are_understood(swin, answer, tmp_path):
    old = {name.replace(".linear1.", ".fc1.").replace(".linear2.", ".fc2."): t for name, t in swin.state_dict().items()}
    old["swinViT.layers1.0.blocks.1.attn_mask"] = torch.zeros(3, 3)
    assert set(normalise_names(old)) >= set(swin.state_dict())
    torch.save({"state_dict": {"module." + name: tensor for name, tensor in old.items()}}, tmp_path / "a.pt")
    assert torch.equal(logits(load_model(tmp_path / "a.pt", **SAID)), answer)


def test_computed_buffers_may_be_absent(swin, answer, tmp_path):
    bare = {name: t for name, t in swin.state_dict().items() if not name.endswith("relative_position_index")}
    torch.save(bare, tmp_path / "a.pt")
    assert torch.equal(logits(load_model(tmp_path / "a.pt", **SAID)), answer)


def test_a_wrong_position_table_is_refused(swin, tmp_path):
    state = swin.state_dict()
    name = next(name for name in state if name.endswith("relative_position_index"))
    torch.save({**state, name: state[name] + 10**6}, tmp_path / "a.pt")
    assert name in refusal(load_model, tmp_path / "a.pt", **SAID)


def test_half_precision_checkpoints_answer_in_float32(swin, answer, tmp_path):
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in swin.state_dict().items()}
    torch.save(half, tmp_path / "a.pt")
    loaded = logits(load_model(tmp_path / "a.pt", **SAID))
    assert loaded.dtype == torch.float32
    assert (loaded - answer).abs().max() < 0.02 * answer.abs().max()


def test_a_network_for_several_channels_is_refused(tmp_path):
    torch.save(network_of(**{**SWIN_ARGUMENTS, "in_channels": 4}).state_dict(), tmp_path / "a.pt")
    assert "takes 4 input channels" in refusal(load_model, tmp_path / "a.pt")


def test_a_flat_network_is_refused(tmp_path):
    torch.save(network_of(**SWIN_ARGUMENTS, spatial_dims=2).state_dict(), tmp_path / "a.pt")
    assert "two-dimensional" in refusal(load_model, tmp_path / "a.pt")


def test_normalisation_that_tensors_cannot_tell_is_refused(tmp_path):
    network = network_of(**SWIN_ARGUMENTS, norm_name=("instance", {"affine": True}))
    torch.save(network.state_dict(), tmp_path / "a.pt")
    assert "norm_name" in refusal(load_model, tmp_path / "a.pt")


def test_another_network_is_not_taken_for_a_swin_unetr(tmp_path):
    torch.save(network_of("SegResNet", **SMALL_NETWORKS["SegResNet"]).state_dict(), tmp_path / "a.pt")
    first, _, details = refusal(load_model, tmp_path / "a.pt").partition(" Details: ")
    assert "this is not a Swin UNETR checkpoint" in first and "give the whole folder" in first
    assert "swinViT" not in first and "swinViT.patch_embed.proj.weight" in details


def test_a_pretrained_encoder_is_told_apart_from_a_whole_network(swin, tmp_path):
    torch.save({"state_dict": {"module." + k: v for k, v in swin.swinViT.state_dict().items()}}, tmp_path / "a.pt")
    assert "only its pretrained encoder" in refusal(load_model, tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.pop("decoder1.conv_block.conv1.conv.weight"), "lacks decoder1.conv_block.conv1.conv"),
        (lambda state: state.update({"head.weight": torch.ones(2)}), "unexpected head.weight"),
        (lambda state: state.update({"out.conv.conv.bias": torch.ones(9)}), "out.conv.conv.bias [9] instead of [3]"),
        (lambda state: state.pop("swinViT.layers3.0.blocks.0.attn.relative_position_bias_table"), "layers3"),
    ],
)
def test_tensors_that_do_not_fit_are_named(swin, tmp_path, change, told):
    state = dict(swin.state_dict())
    change(state)
    torch.save(state, tmp_path / "a.pt")
    assert told in refusal(load_model, tmp_path / "a.pt", **SAID)


def test_a_wrong_number_of_labels_is_told_with_both_counts(checkpoint):
    text = refusal(load_model, checkpoint, **{**SAID, "labels": ("background", "heart")})
    assert "2 names" in text and "3 classes" in text and str(checkpoint) in text


@pytest.mark.parametrize(("window", "told"), [((96, 96, 90), "divisible by 32"), ((32, 32, 32), "at least")])
def test_a_window_that_swin_unetr_cannot_take_is_refused(checkpoint, window, told):
    assert told in refusal(load_model, checkpoint, **{**SAID, "window": window})


# Names of bundled models ---------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(swin, tmp_path, monkeypatch):
    write_model_folder(tmp_path / "wheel/thorax-phantom", swin.state_dict(), card_of())
    write_model_folder(tmp_path / "tree/thorax-phantom", swin.state_dict(), card_of(name="hidden"))
    write_model_folder(tmp_path / "tree/abdomen", swin.state_dict(), card_of(name="abdomen"))
    (tmp_path / "tree/notes").mkdir()
    monkeypatch.setattr(loading, "_MODEL_PLACES", (tmp_path / "wheel", tmp_path / "tree", tmp_path / "absent"))


def test_bundled_models_are_found_by_name(shelf, tmp_path):
    assert bundled_models() == {
        "thorax-phantom": tmp_path / "wheel/thorax-phantom",
        "abdomen": tmp_path / "tree/abdomen",
    }
    assert load_model("abdomen").card.name == "abdomen"


def test_a_mistyped_name_is_answered_with_the_nearest(shelf):
    assert "did you mean thorax-phantom?" in refusal(load_model, "thorax-fantom")


@pytest.mark.parametrize("source", ["nowhere/model", "model.pt"])
def test_a_missing_path_is_not_taken_for_a_name(shelf, source):
    assert "no such file or folder" in refusal(load_model, source)
