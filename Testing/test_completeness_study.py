"""The study of integrated gradients' paths: what it foresees without gradients is what the method then does."""

import numpy as np
import pytest
import torch
from small_networks import Smooth

from Agg2ExpLib.case import Case
from Agg2ExpLib.methods import IntegratedGradients
from Agg2ExpLib.methods.integrated_gradients import PATHS
from Agg2ExpLib.models import Tiling, from_module
from Agg2ExpLib.studies.completeness import along_the_way, middle_of_the_chest
from Agg2ExpLib.volume import Grid, Volume

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def case():
    classes = ["background", "one", "two", "three"]
    model = from_module(Smooth(seed=4), classes=classes, tiling=Tiling((8, 8, 8)), removed=0.0)
    scan = np.random.default_rng(0).random((12, 8, 8)).astype(np.float32)
    return Case.open(Volume(scan, Grid(scan.shape, np.eye(4))), model, device="cpu", precision="float64")


@pytest.mark.parametrize("path", PATHS)
def test_the_gap_foreseen_is_the_gap_of_the_attribution(case, path):
    assert case.n_windows > 1
    way = along_the_way(case, case.labels[1:], 400)
    for points in (3, 12):
        found = {
            case.labels[one.class_index]: one.completeness_gap
            for one in case.attribute(IntegratedGradients(samples=points, path=path), case.labels[1:])
        }
        assert list(found) == list(way.names)
        assert way.gaps(path, points) == pytest.approx(list(found.values()), rel=1e-2, abs=1e-3)


def test_the_chest_is_cut_out_of_the_phantom_where_it_was():
    volume = middle_of_the_chest(1, (20, 16, 12))
    assert volume.voxels.shape == (20, 16, 12)
    assert np.abs(volume.grid.centre - np.array([0.0, -12.0, 0.0])).max() < 6
