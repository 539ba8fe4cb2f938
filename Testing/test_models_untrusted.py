"""Weights files from anyone: what is sound is read, everything else is refused in one sentence and never run."""

import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models import untrusted
from Agg2ExpLib.models.untrusted import read_sets, sha256, sound_tensors
from Agg2ExpLib.models.weight_sets import choose

# torch deprecates the very formats that are refused here.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore:Detected pickle protocol")

WEIGHTS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}


class Payload:
    """Unpickling an instance creates a file: the sign that a checkpoint ran code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def read_tensors(path, **options):
    """Read the one set of weights that a file holds."""
    return sound_tensors(choose(read_sets(path, **options), list(WEIGHTS), path).tensors, path)


def refusal(path, **options) -> str:
    with pytest.raises(InputError) as caught:
        read_tensors(path, **options)
    text = str(caught.value)
    assert str(path) in text, "the sentence names the file"
    assert "\n" not in text
    return text


def assert_same(tensors):
    assert set(tensors) == set(WEIGHTS)
    assert all(torch.equal(tensors[name], WEIGHTS[name]) for name in WEIGHTS)


@pytest.mark.parametrize("name", ["a.safetensors", "renamed.pt"])
def test_safetensors_are_read_whatever_the_file_is_called(tmp_path, name):
    save_file(WEIGHTS, tmp_path / name)
    assert_same(read_tensors(tmp_path / name))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.ckpt", "a.bin"])
def test_both_formats_of_torch_save_are_read(tmp_path, name, zipped):
    torch.save(WEIGHTS, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert_same(read_tensors(tmp_path / name))


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "network", "net"])
def test_wrappings_of_training_programs_are_taken_off(tmp_path, wrapper):
    torch.save({"epoch": 3, wrapper: WEIGHTS, "optimizer": {"lr": 0.1}}, tmp_path / "a.pt")
    assert_same(read_tensors(tmp_path / "a.pt"))


def test_harmless_values_beside_the_tensors_are_ignored(tmp_path):
    torch.save({**WEIGHTS, "epoch": 7, "note": "best"}, tmp_path / "a.pt")
    assert_same(read_tensors(tmp_path / "a.pt"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path, dtype):
    torch.save({name: tensor.to(dtype) for name, tensor in WEIGHTS.items()}, tmp_path / "a.pt")
    tensors = read_tensors(tmp_path / "a.pt")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert_same(tensors)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("kind", ["zip", "legacy", "plain pickle"])
def test_a_pickle_with_a_payload_is_refused_and_does_not_run(tmp_path, kind, trust):
    path, mark = tmp_path / "a.pt", tmp_path / "payload-ran"
    content = {"state_dict": WEIGHTS, "extra": Payload(mark)}
    if kind == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    text = refusal(path, trust_checkpoint=trust)
    assert "nothing in it was run" in text or "not a PyTorch checkpoint" in text
    assert not mark.exists()
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists(), "the payload itself works, so its absence above means something"


def test_a_whole_pickled_network_is_refused_with_the_way_out(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pt")
    assert "state_dict" in refusal(tmp_path / "a.pt")


def test_numpy_scores_beside_the_weights_need_trust(tmp_path):
    torch.save({"state_dict": WEIGHTS, "best": np.float64(0.9)}, tmp_path / "a.pt")
    assert "--trust-checkpoint" in refusal(tmp_path / "a.pt")
    assert_same(read_tensors(tmp_path / "a.pt", trust_checkpoint=True))


@pytest.mark.parametrize("version", ["2.5.1+cu121", "2.9.1"])
def test_a_torch_with_known_holes_reads_no_pickle_unless_trusted(tmp_path, monkeypatch, version):
    torch.save(WEIGHTS, tmp_path / "a.pt")
    save_file(WEIGHTS, tmp_path / "a.safetensors")
    monkeypatch.setattr(torch, "__version__", version)
    text = refusal(tmp_path / "a.pt")
    assert "upgrade torch" in text and "safetensors" in text and "--trust-checkpoint" in text
    assert_same(read_tensors(tmp_path / "a.pt", trust_checkpoint=True))
    assert_same(read_tensors(tmp_path / "a.safetensors"))


def test_an_old_torch_does_not_run_a_payload_even_when_trusted(tmp_path, monkeypatch):
    mark = tmp_path / "payload-ran"
    torch.save({"state_dict": WEIGHTS, "extra": Payload(mark)}, tmp_path / "a.pt")
    monkeypatch.setattr(torch, "__version__", "2.4.0")
    refusal(tmp_path / "a.pt", trust_checkpoint=True)
    assert not mark.exists()


def test_a_torchscript_program_is_refused(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "a.pt")
    assert "TorchScript" in refusal(tmp_path / "a.pt")


def test_a_missing_file_is_said_to_be_unreadable(tmp_path):
    assert "cannot be read" in refusal(tmp_path / "none.pt")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"")
    assert "is empty" in refusal(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_text_file_is_refused(tmp_path, name):
    (tmp_path / name).write_text("<!DOCTYPE html><html>Please log in</html>")
    assert "safetensors" in refusal(tmp_path / name)


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_truncated_file_is_refused(tmp_path, kind, keep):
    path = tmp_path / ("a.safetensors" if kind == "safetensors" else "a.pt")
    large = {"weight": torch.rand(1000)}
    if kind == "safetensors":
        save_file(large, path)
    else:
        torch.save(large, path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    refusal(path)


def test_a_safetensors_header_longer_than_the_file_is_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    assert "header" in refusal(tmp_path / "a.safetensors")


@pytest.mark.parametrize("header", [b"{not json}", b'{"a": 1}', b'{"a": {"data_offsets": "xy"}}', b"{" * 5000])
def test_a_senseless_safetensors_header_is_refused(tmp_path, header):
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert "damaged" in refusal(tmp_path / "a.safetensors")


def test_a_compressed_archive_is_refused_before_it_unfolds(tmp_path):
    torch.save({"weight": torch.zeros(1_000_000)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as stored, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for entry in stored.infolist():
            bomb.writestr(entry.filename, stored.read(entry), zipfile.ZIP_DEFLATED)
    assert (tmp_path / "bomb.pt").stat().st_size < 100_000
    assert "packed" in refusal(tmp_path / "bomb.pt")


def test_another_zip_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    assert "not a PyTorch checkpoint" in refusal(tmp_path / "a.pt")


def test_a_view_that_claims_terabytes_over_one_number_is_refused(tmp_path):
    torch.save({"weight": torch.ones(1, dtype=torch.float16).expand(2**40)}, tmp_path / "a.pt")
    assert "claim more" in refusal(tmp_path / "a.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["a.pt", "a.safetensors"])
def test_weights_that_are_not_finite_are_refused(tmp_path, kind, value):
    weights = {"layer.weight": torch.tensor([1.0, value])}
    torch.save(weights, tmp_path / kind) if kind == "a.pt" else save_file(weights, tmp_path / kind)
    text = refusal(tmp_path / kind)
    assert "weights contain NaN" in text and "layer.weight" in text


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}, torch.ones(3)])
def test_a_checkpoint_without_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    assert "holds no network weights" in refusal(tmp_path / "a.pt")


def test_sparse_and_complex_tensors_are_refused(tmp_path):
    torch.save({"weight": torch.eye(3).to_sparse()}, tmp_path / "sparse.pt")
    torch.save({"weight": torch.ones(3, dtype=torch.complex64)}, tmp_path / "complex.pt")
    assert "ordinary tensor" in refusal(tmp_path / "sparse.pt")
    assert "ordinary tensor" in refusal(tmp_path / "complex.pt")


def test_the_hash_is_that_of_the_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(untrusted, "_CHUNK", 2)
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
