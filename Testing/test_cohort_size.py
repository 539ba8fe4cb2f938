"""Importance beside size: volume shares, shares within structures, shifted masks and shells, each against a plain calculation."""

import numpy as np
import pytest
from cohort_samples import LABELS, write_cohort
from scipy import stats
from scipy.ndimage import distance_transform_edt

from Agg2ExpLib.cohort.judge.size import own_shares, shell_share, shifted_shares, size_correlation
from Agg2ExpLib.cohort.table.tables import CohortTable, volume_shares
from Agg2ExpLib.importance import absent_row, build_table, importance_row


def volume(seed, side=14):
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, 10, 10), int)
    labels[2:6, 2:6, 2:6], labels[7:9, 2:5, 2:5], labels[2:4, 7:9, 7:9] = 1, 2, 3
    return labels, [np.abs(rng.normal(0, 1 + (labels == index))) for index in range(4)]


def table_of_volume(seed, side=14, lacking=()):
    labels, attributions = volume(seed, side)
    for index in lacking:
        labels[labels == index] = 0
    whole = tuple(slice(0, n) for n in labels.shape)
    rows = {
        LABELS[i]: absent_row(labels, 4) if i in lacking else importance_row(attributions[i], whole, labels, 4)
        for i in range(1, 4)
    }
    return build_table(rows, LABELS)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes") / "cohort"
    tables = {f"p{n}": table_of_volume(n, 14 + 4 * n, (3,) if n == 2 else ()) for n in range(4)}
    return CohortTable.read(write_cohort(folder, tables))


def test_shares_of_the_volume_are_voxels_over_voxels(table):
    for n in range(4):
        labels, _ = volume(n, 14 + 4 * n)
        labels[labels == 3] *= n != 2
        np.testing.assert_allclose(table.volumes[n], np.bincount(labels.ravel(), minlength=4) / labels.size)


def test_without_voxels_they_follow_from_mass_and_enrichment(table):
    unknown = np.full(table.volumes.shape, np.nan)
    found = volume_shares(table.values["mass"], table.values["enrichment"], unknown, table.rois, LABELS)
    np.testing.assert_allclose(found, table.volumes, rtol=1e-9)


def test_what_an_even_attribution_holds_is_the_share_of_the_volume_and_air_changes_nothing_within_structures(table):
    shares = own_shares(table)
    for n in (0, 3):
        labels, attributions = volume(n, 14 + 4 * n)
        strength = attributions[1]
        assert shares.own[n, 0] == pytest.approx(strength[labels == 1].sum() / strength.sum())
        assert shares.own_within[n, 0] == pytest.approx(strength[labels == 1].sum() / strength[labels > 0].sum())
        assert shares.volume_within[n, 0] == pytest.approx((labels == 1).sum() / (labels > 0).sum())
    assert np.ptp(shares.volume_within[[0, 1, 3], 0]) < 1e-12, "the same structures in a larger field of view"
    assert np.ptp(shares.volume[[0, 1, 3], 0]) > 0.01
    assert np.isnan(shares.own[2, 2])
    count, rho = size_correlation(shares)
    assert (count, np.isnan(rho)) == (3, True), "three structures make no correlation"


def test_a_shifted_mask_holds_what_it_holds_there():
    labels, attributions = volume(0)
    mask, strength = labels == 2, attributions[0]
    found = shifted_shares(strength, mask, 4000)
    where = np.argwhere(mask)
    size = where.max(axis=0) - where.min(axis=0) + 1
    every = [
        strength[i : i + size[0], j : j + size[1], k : k + size[2]].sum() / strength.sum()
        for i in range(strength.shape[0] - size[0] + 1)
        for j in range(strength.shape[1] - size[1] + 1)
        for k in range(strength.shape[2] - size[2] + 1)
    ]
    assert {round(one, 12) for one in found} <= {round(one, 12) for one in every}
    assert found.mean() == pytest.approx(np.mean(every), rel=0.02)
    assert np.mean(shifted_shares(np.ones(mask.shape), mask, 10)) == pytest.approx(mask.mean())
    assert not len(shifted_shares(strength, labels == 9))


def test_the_shell_has_as_many_voxels_as_the_structure():
    labels, attributions = volume(0)
    mask, spacing = np.zeros(labels.shape, bool), (1.0, 1.0, 2.0)
    mask[4:10, 2:8, 2:8] = True
    assert shell_share(np.ones(mask.shape), mask, spacing) == pytest.approx(mask.mean())
    far = distance_transform_edt(~mask, sampling=spacing)
    order = np.sort(far[~mask])
    limit = order[mask.sum() - 1]
    near = ~mask & (far < limit)
    only_near = np.where(near, attributions[0], 0.0)
    assert shell_share(only_near, mask, spacing) == pytest.approx(1.0)
    beyond = np.where(~mask & (far > limit), attributions[0], 0.0)
    assert shell_share(beyond, mask, spacing) == 0
    assert np.isnan(shell_share(attributions[0], labels == 9, spacing))


def test_correlation_over_structures_is_scipys():
    from types import SimpleNamespace

    rng = np.random.default_rng(0)
    size, own = rng.random((9, 6)), rng.random((9, 6))
    count, rho = size_correlation(SimpleNamespace(own_within=own, volume_within=size))
    direct = stats.spearmanr(np.median(own, axis=0), np.median(size, axis=0)).statistic
    assert (count, rho) == (6, pytest.approx(direct))
