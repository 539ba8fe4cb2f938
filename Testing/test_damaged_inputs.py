"""Damaged inputs of every kind are read or refused in one sentence; a few of each here, thousands by fuzz_inputs itself."""

import pytest

from Testing.fuzz_inputs import KINDS, damage, one_input, table

# Two of each kind, and every input that once ended in a traceback or an unreadable sentence.
FEW = [kind + turn * len(KINDS) for kind in range(len(KINDS)) for turn in (0, 3)]
ONCE_BAD = [510, 847, 993, 1439, 1535, 1659, 10580, 10597, 10607, 10726, 11063, 11080, 11374, 11629, 11797, 11926]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return tmp_path_factory.mktemp("good")


@pytest.mark.parametrize("number", [*FEW, *ONCE_BAD])
def test_a_damaged_input_is_read_or_refused_in_one_sentence(good, tmp_path, number):
    kind, outcome, text = one_input(number, good, tmp_path)
    assert outcome in ("read", "refused"), f"{kind}: {text}"


def test_a_fault_is_counted_as_one(good, tmp_path, monkeypatch):
    def half(path, out):
        out.mkdir()
        (out / ".part").write_bytes(b"")

    def broken(path, out):
        raise KeyError("format")

    for read, outcome in ((half, "half-written"), (broken, "traceback")):
        monkeypatch.setitem(KINDS, "DICOM series", (KINDS["DICOM series"][0], read))
        found = one_input(0, good, tmp_path)
        assert found[1] == outcome
        assert "| DICOM series | 0 |" in table([(0, *found)])


def test_damage_is_the_same_for_the_same_seed(tmp_path):
    import numpy as np

    contents = []
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text('{"labels": ["one", "two"], "spacing": [1, 2, 3]}')
        damage(tmp_path / name, np.random.default_rng(5))
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
