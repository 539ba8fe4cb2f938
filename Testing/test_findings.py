"""Findings of the phantom: regions of interest that lie where such a finding lies, and never a class."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from Agg2ExpLib.anatomy import FINDINGS, THORAX_17, thorax_label
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.phantom import Finding, make_phantom
from Agg2ExpLib.phantom.findings import lobes_of

SPACING = 6.0
PATIENTS = ((0, 0, "left"), (1, 1, "right"))


@pytest.fixture(scope="module")
def healthy():
    return {(seed, index): make_phantom(seed, index, SPACING) for seed, index, _ in PATIENTS}


@pytest.fixture(scope="module")
def ill():
    """(kind, patient) -> a phantom with that finding of middle severity."""
    return {
        (kind, (seed, index)): make_phantom(seed, index, SPACING, [Finding(kind, 0.5, side)])
        for kind in FINDINGS
        for seed, index, side in PATIENTS
    }


def pairs(healthy, ill, kind):
    """Per patient: the healthy one, the ill one, the finding's mask and its side."""
    for seed, index, side in PATIENTS:
        phantom = ill[kind, (seed, index)]
        yield healthy[seed, index], phantom, phantom.findings[kind].voxels > 0, side


def lung(phantom, side):
    return np.isin(phantom.labels.voxels, [thorax_label(name) for name in lobes_of(side)])


def places(phantom, mask):
    return np.argwhere(mask) @ phantom.image.affine[:3, :3].T + phantom.image.affine[:3, 3]


@pytest.mark.parametrize("kind", FINDINGS)
def test_a_finding_lies_in_the_lung_of_its_side(healthy, ill, kind):
    for before, after, mask, side in pairs(healthy, ill, kind):
        assert list(after.findings) == [kind]
        assert mask.any()
        assert not (mask & ~lung(before, side)).any()
        assert after.findings[kind].grid.same_as(after.image.grid)
        assert after.findings[kind].voxels.dtype == np.uint8
        assert set(np.unique(after.findings[kind].voxels)) == {0, 1}


@pytest.mark.parametrize("kind", FINDINGS)
def test_a_finding_is_a_region_and_never_a_class(healthy, ill, kind):
    """Fluid and air push the lung away and become background; what lies in a lobe stays part of it."""
    for before, after, mask, _ in pairs(healthy, ill, kind):
        expected = before.labels.voxels.copy()
        if kind in ("pleural_effusion", "pneumothorax"):
            expected[mask] = 0
        np.testing.assert_array_equal(after.labels.voxels, expected)
        assert after.labels.voxels.max() < len(THORAX_17)


@pytest.mark.parametrize("kind", FINDINGS)
def test_the_rest_of_the_patient_stays_as_it_was(healthy, ill, kind):
    for before, after, mask, side in pairs(healthy, ill, kind):
        # The scanner's blur reaches a voxel or two beyond; a collapsed lung has a new rim.
        near = binary_dilation(mask if kind != "pneumothorax" else lung(before, side), np.ones((3, 3, 3)), 2)
        np.testing.assert_array_equal(after.image.voxels[~near], before.image.voxels[~near])
        assert (after.image.voxels[mask] != before.image.voxels[mask]).any()


def test_effusion_is_fluid_that_gathers_at_the_back_of_a_lying_patient(healthy, ill):
    for before, after, mask, side in pairs(healthy, ill, "pleural_effusion"):
        whole = lung(before, side)
        assert -10 < np.median(after.image.voxels[mask]) < 40
        fluid, air = places(after, mask)[:, 1], places(after, whole & ~mask)[:, 1]
        assert fluid.mean() < air.mean() - 25
        # Fluid fills the pleural space from the back: of the rearmost lung nearly all, of the foremost none.
        rear = whole & (after.image.grid.index_to_world(np.indices(mask.shape).reshape(3, -1).T)[:, 1].reshape(mask.shape)
                        < np.percentile(places(before, whole)[:, 1], 5))  # fmt: skip
        assert mask[rear].mean() > 0.9
        assert fluid.max() < np.percentile(air, 99)


def test_pneumothorax_is_air_without_vessels_at_the_front_and_the_top(healthy, ill):
    for before, after, mask, side in pairs(healthy, ill, "pneumothorax"):
        whole = lung(before, side)
        assert np.median(after.image.voxels[mask]) < -930
        assert np.median(after.image.voxels[mask]) < np.median(after.image.voxels[whole & ~mask]) - 40
        assert places(after, mask)[:, 1].mean() > places(after, whole & ~mask)[:, 1].mean() + 10
        # Under the chest wall: every part of it is nearer to the outside than the collapsed lung is on the whole.
        assert (binary_dilation(~whole, iterations=1) & mask).sum() > 0.3 * mask.sum()


@pytest.mark.parametrize(("kind", "low", "high"), [("consolidation", -60, 80), ("nodule", -450, 90)])
def test_consolidations_and_nodules_are_denser_than_the_lung_they_lie_in(healthy, ill, kind, low, high):
    for before, after, mask, side in pairs(healthy, ill, kind):
        inside = after.image.voxels[mask]
        assert np.median(before.image.voxels[lung(before, side)]) < -700
        assert np.median(inside) > np.median(before.image.voxels[mask]) + 200
        assert low < np.median(inside) < high
        lobes = {name for name in THORAX_17 if (after.labels.voxels[mask] == thorax_label(name)).any()}
        assert len(lobes) == 1
        assert lobes <= set(lobes_of(side))


def test_a_consolidation_keeps_its_airways_open():
    phantom = make_phantom(0, 0, 4.0, [Finding("consolidation", 0.8, "left")])
    inside = phantom.image.voxels[phantom.findings["consolidation"].voxels > 0]
    assert 0.005 < np.mean(inside < -200) < 0.35


@pytest.mark.parametrize("kind", FINDINGS)
def test_the_volume_grows_with_the_severity(kind):
    sizes = [
        int(make_phantom(2, 3, 8.0, [Finding(kind, severity, "right")]).findings[kind].voxels.sum())
        for severity in (0.02, 0.3, 0.65, 1.0)
    ]
    assert sizes[0] > 0
    assert all(smaller < larger for smaller, larger in itertools.pairwise(sizes)), sizes
    assert sizes[-1] > 4 * sizes[0]


@pytest.mark.parametrize("kind", FINDINGS)
def test_the_least_severe_finding_shows_at_the_coarsest_spacing(kind):
    for seed, side in enumerate(("left", "right", "left")):
        assert make_phantom(seed, 0, 10.0, [Finding(kind, 0.01, side)]).findings[kind].voxels.any(), (seed, side)


@pytest.mark.parametrize("kind", FINDINGS)
def test_a_finding_is_at_the_same_place_and_of_the_same_size_at_another_spacing(ill, kind):
    seed, index, side = PATIENTS[1]
    coarse, fine = ill[kind, (seed, index)], make_phantom(seed, index, 4.5, [Finding(kind, 0.5, side)])
    centres, volumes = zip(
        *(
            (places(one, one.findings[kind].voxels > 0).mean(axis=0), one.findings[kind].voxels.sum() * spacing**3)
            for one, spacing in ((coarse, SPACING), (fine, 4.5))
        ),
        strict=True,
    )
    assert np.linalg.norm(centres[0] - centres[1]) < 4.0
    assert volumes[0] == pytest.approx(volumes[1], rel=0.3 if kind == "nodule" else 0.08)


@pytest.mark.parametrize("kind", ["consolidation", "nodule"])
def test_the_place_of_a_finding_differs_between_patients_and_obeys_the_lobe(kind):
    centres = []
    for index in range(3):
        finding = Finding(kind, 0.3, "right", "lung_middle_lobe_right")
        phantom = make_phantom(6, index, 10.0, [finding])
        mask = phantom.findings[kind].voxels > 0
        assert set(phantom.labels.voxels[mask]) == {thorax_label("lung_middle_lobe_right")}
        centres.append(places(phantom, mask).mean(axis=0))
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(centres, 2)) > 4.0


def test_several_findings_keep_their_own_masks_and_names():
    wanted = [
        Finding("nodule", 0.8, "left"),
        Finding("pleural_effusion", 0.4, "right"),
        Finding("nodule", 0.8, "right"),
    ]
    phantom = make_phantom(3, 0, 8.0, wanted)
    assert list(phantom.findings) == ["nodule", "pleural_effusion", "nodule_2"]
    left, fluid, right = (mask.voxels > 0 for mask in phantom.findings.values())
    assert places(phantom, left)[:, 0].max() < places(phantom, right)[:, 0].min()
    assert not (fluid & left).any()
    described = phantom.description["findings"]
    assert [(one["name"], one["kind"], one["side"]) for one in described] == [
        ("nodule", "nodule", "left"),
        ("pleural_effusion", "pleural_effusion", "right"),
        ("nodule_2", "nodule", "right"),
    ]


def test_the_same_finding_is_the_same_bit_by_bit():
    wanted = [Finding("consolidation", 0.6, "left"), Finding("pneumothorax", 0.2, "right")]
    first, second = (make_phantom(3, 1, 9.0, wanted) for _ in range(2))
    np.testing.assert_array_equal(first.image.voxels, second.image.voxels)
    for name in first.findings:
        np.testing.assert_array_equal(first.findings[name].voxels, second.findings[name].voxels)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nodule", Finding("nodule", 0.5, "right", "")),
        ("nodule:0.2", Finding("nodule", 0.2, "right", "")),
        ("nodule::left", Finding("nodule", 0.5, "left", "")),
        ("nodule:1:left:lung_upper_lobe_left", Finding("nodule", 1.0, "left", "lung_upper_lobe_left")),
        ("nodule:::lung_upper_lobe_right", Finding("nodule", 0.5, "right", "lung_upper_lobe_right")),
    ],
)
def test_findings_are_read_from_the_command_line(text, expected):
    assert Finding.parse(text) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pleural effusio",), "did you mean pleural_effusion"),
        (("nodule", 0.0), "must be above 0 and at most 1"),
        (("nodule", 1.01), "severity of nodule is 1.01"),
        (("nodule", 0.5, "both"), "use left or right"),
        (("nodule", 0.5, "left", "lung_upper_lobe_right"), "on the left there are"),
    ],
)
def test_findings_that_do_not_exist_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Finding(*arguments)
