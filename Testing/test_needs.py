"""How much around a structure a model needs: known by hand for networks that look so and so far."""

from pathlib import Path

import numpy as np
import pytest
import torch

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation import explain
from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.models.model import SegmentationModel
from Agg2ExpLib.needs import Needs, describe_needs, needs
from Agg2ExpLib.request import request_of
from Agg2ExpLib.volume import Grid, Volume

torch.set_num_threads(1)
STEP = 2.0


class Near(torch.nn.Module):
    """Finds a bright voxel only where something bright lies ``reach`` voxels farther along the first axis."""

    def __init__(self, reach):
        super().__init__()
        self.reach = reach

    def forward(self, x):
        partner = torch.roll(x, -self.reach, dims=2)
        found = torch.minimum(x, partner)
        return torch.cat([0.7 - found, found, torch.zeros_like(x) - 9], dim=1)


def explained(folder, reach):
    card = ModelCard(
        name="near", labels=("background", "thing", "none"), window=(48, 16, 16), spacing=(STEP, STEP, STEP)
    )
    model = SegmentationModel(card, Near(reach).eval(), "0" * 64, Path("near.safetensors"))
    hu = np.full((48, 16, 16), -1000.0)
    hu[10:13, 6:10, 6:10] = hu[10 + reach : 13 + reach, 6:10, 6:10] = 1000
    volume = Volume(hu.astype(np.int16), Grid(hu.shape, np.diag([STEP, STEP, STEP, 1.0])))
    return explain(volume, model, folder / "out", request_of("gradient", device="cpu", classes=["thing"])), model


@pytest.mark.parametrize(("reach", "least"), [(0, 0.0), (3, 6.0), (7, 15.0)])
def test_the_least_margin_is_found_in_eight_predictions_at_most(tmp_path, reach, least):
    explanation, model = explained(tmp_path, reach)
    found = needs(explanation, "thing", model=model, device="cpu")
    # The last voxel of the partner lies reach * 2 mm from the structure; margins are tried to about a quarter of their step.
    assert found.least == least
    assert least >= reach * STEP
    assert len(found.tried) <= 8
    assert {margin: agreement for margin, agreement in found.tried}[least] >= 0.95
    assert all(agreement < 0.95 for margin, agreement in found.tried if margin < least)
    assert f"{least:g} mm" in describe_needs(found) or "nothing around it" in describe_needs(found)


def test_a_structure_that_needs_more_than_was_tried_is_told_so(tmp_path):
    explanation, model = explained(tmp_path, 30)
    found = needs(explanation, "thing", model=model, device="cpu")
    assert (found.least, len(found.tried)) == (None, 6)
    assert "more than 40 mm" in found.sentence()


def test_what_cannot_be_asked_is_refused_by_name(tmp_path):
    explanation, model = explained(tmp_path, 0)
    with pytest.raises(InputError, match="no structure 'thng'"):
        needs(explanation, "thng", model=model)
    with pytest.raises(InputError, match="none is not in the prediction"):
        needs(explanation, "none", model=model)
    with pytest.raises(InputError, match="unknown fill"):
        needs(explanation, "thing", fill="water", model=model)
    assert Needs("thing", 0.0, ()).sentence().endswith("by itself.")
