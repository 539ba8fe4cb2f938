"""The thorax phantom: does the painted chest have the anatomy it claims, whatever the patient and the grid?"""

import itertools

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, label

from Agg2ExpLib.anatomy import THORAX_17, thorax_label
from Agg2ExpLib.phantom import make_phantom
from Agg2ExpLib.phantom.patient import Patient

LOBES = tuple(name for name in THORAX_17 if name.startswith("lung_"))
EVERY_NEIGHBOUR = np.ones((3, 3, 3), dtype=bool)

# Litres are rounded outwards from those of adults; a class far outside of its range would be another organ.
MILLILITRES = {
    "aorta": (60, 320),
    "lung_upper_lobe_left": (400, 1300),
    "lung_lower_lobe_left": (350, 1300),
    "lung_upper_lobe_right": (300, 1300),
    "lung_middle_lobe_right": (150, 800),
    "lung_lower_lobe_right": (250, 1300),
    "trachea": (15, 70),
    "heart": (300, 1100),
    "pulmonary_vein": (15, 60),
    "thyroid_gland": (7, 35),
    "ribs": (250, 750),
    "vertebraes": (150, 420),
    "autochthon_left": (80, 380),
    "autochthon_right": (80, 380),
    "sternum": (30, 90),
    "costal_cartilages": (50, 150),
}


class Chest:
    """A phantom with what the tests ask of it: masks, places in mm, medians in HU."""

    def __init__(self, seed, index, spacing):
        self.patient = Patient.draw(seed, index)
        self.phantom = make_phantom(seed, index, spacing)
        self.labels, self.hu = self.phantom.labels.voxels, self.phantom.image.voxels
        self.affine = self.phantom.labels.grid.affine

    def mask(self, name):
        return self.labels == thorax_label(name)

    def places(self, mask):
        """World coordinates (mm, RAS) of the voxels of a mask or of a class name."""
        mask = self.mask(mask) if isinstance(mask, str) else mask
        return np.argwhere(mask) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def centre(self, mask):
        return self.places(mask).mean(axis=0)

    def heights(self):
        return self.affine[2, 3] + self.affine[2, 2] * np.arange(self.labels.shape[2])

    def millilitres(self, name):
        return self.mask(name).sum() * abs(np.linalg.det(self.affine[:3, :3])) / 1000

    def hu_inside(self, name):
        """Median HU away from the border, where neither blur nor mixed voxels reach; of all voxels if it is thin."""
        inside = binary_erosion(self.mask(name))
        return float(np.median(self.hu[inside if inside.sum() > 20 else self.mask(name)]))


@pytest.fixture(scope="module", params=[(0, 0), (1, 0), (5, 2)], ids="cohort{0[0]}-patient{0[1]}".format)
def chest(request):
    return Chest(*request.param, 4.0)


@pytest.fixture(scope="module")
def coarse():
    return [Chest(seed, index, 6.0) for seed in range(2) for index in range(3)]


def parts(mask):
    """Connected parts of a mask, larger than a stray voxel or two, diagonal neighbours counted as connected."""
    marked, count = label(mask, np.ones((3,) * mask.ndim))
    return [marked == part for part in range(1, count + 1) if (marked == part).sum() > 2]


def test_every_class_is_in_every_patient_at_coarse_spacing_in_a_plausible_amount(coarse):
    for one in coarse:
        assert set(np.unique(one.labels)) == set(range(len(THORAX_17)))
        for name, (low, high) in MILLILITRES.items():
            assert low < one.millilitres(name) < high, (one.phantom.description, name)


def test_left_is_left_and_right_is_right_in_ras(coarse):
    for one in coarse:
        # Indices rise towards right, front and head.
        np.testing.assert_array_equal(one.affine[:3, :3], np.diag([6.0, 6.0, 6.0]))
        spine = one.centre("vertebraes")[0]
        for name in ("lung_upper_lobe", "lung_lower_lobe", "autochthon"):
            assert np.percentile(one.places(f"{name}_left")[:, 0], 95) < spine + 12
            assert np.percentile(one.places(f"{name}_right")[:, 0], 5) > spine - 12
            assert one.centre(f"{name}_left")[0] < spine - 10 < spine + 10 < one.centre(f"{name}_right")[0]
        assert one.centre("lung_middle_lobe_right")[0] > spine + 20
        assert one.centre("heart")[0] < spine


def test_fissures_part_the_lobes_in_the_order_of_a_lung(chest):
    """In any vertical line the lower lobe is lowest, then the middle lobe, then the upper one."""
    for lower, upper in (
        ("lung_lower_lobe_left", "lung_upper_lobe_left"),
        ("lung_lower_lobe_right", "lung_middle_lobe_right"),
        ("lung_lower_lobe_right", "lung_upper_lobe_right"),
        ("lung_middle_lobe_right", "lung_upper_lobe_right"),
    ):
        below, above = chest.mask(lower), chest.mask(upper)
        both = below.any(axis=2) & above.any(axis=2)
        assert both.sum() > 15, (lower, upper)
        top = below.shape[2] - 1 - below[both][:, ::-1].argmax(axis=1)
        assert np.mean(top < above[both].argmax(axis=1)) > 0.99, (lower, upper)
    # The oblique fissures fall from back to front; the middle lobe has no part at the back.
    for side in ("left", "right"):
        assert chest.centre(f"lung_lower_lobe_{side}")[1] < chest.centre(f"lung_upper_lobe_{side}")[1] - 5
    assert chest.centre("lung_middle_lobe_right")[1] > chest.centre("lung_lower_lobe_right")[1] + 25


def test_a_windpipe_enters_from_above_and_branches_once_into_two(chest):
    airway = chest.mask("trachea")
    assert len(parts(airway)) == 1
    counts = [len(parts(airway[:, :, k])) for k in range(airway.shape[2])]
    heights = chest.heights()
    single = [k for k in range(len(counts)) if heights[k] > chest.patient.carina + 22]
    assert single
    assert all(counts[k] == 1 for k in single)
    below = airway[:, :, (heights < chest.patient.carina - 20) & np.array(counts, dtype=bool)]
    left, right = (np.argwhere(below)[:, 0] < airway.shape[0] / 2), (np.argwhere(below)[:, 0] >= airway.shape[0] / 2)
    assert left.sum() > 10
    assert right.sum() > 10
    fork = [k for k, count in enumerate(counts) if count == 2]
    assert fork, "no height with two main bronchi"
    assert max(heights[fork]) < min(heights[single])


def test_the_aorta_has_an_arch(chest):
    aorta, heights = chest.mask("aorta"), chest.heights()
    assert len(parts(aorta)) == 1
    double = [k for k in range(aorta.shape[2]) if len(parts(aorta[:, :, k])) == 2]
    assert len(double) * chest.affine[2, 2] > 25
    for k in double[2:-2]:
        one, other = sorted((np.argwhere(part).mean(axis=0) for part in parts(aorta[:, :, k])), key=lambda c: c[1])
        # The descending part is behind and to the left of the ascending one.
        assert one[0] < other[0]
        assert (other[1] - one[1]) * chest.affine[1, 1] > 20
    top = max(np.flatnonzero(aorta.any(axis=(0, 1))))
    assert heights[top] > max(heights[double])
    lowest = chest.places(aorta)[chest.places(aorta)[:, 2] < heights[3]]
    spine = chest.places("vertebraes")[chest.places("vertebraes")[:, 2] < heights[6]]
    assert np.abs(lowest[:, 0].mean() - spine[:, 0].mean()) < 35
    assert lowest[:, 1].mean() > spine[:, 1].mean()


def test_the_thyroid_lies_on_both_sides_of_the_windpipe_above_the_aortic_arch(chest):
    gland = chest.places("thyroid_gland")
    assert gland[:, 2].min() > chest.places("aorta")[:, 2].max()
    neck = chest.places("trachea")
    neck = neck[neck[:, 2] > gland[:, 2].min()]
    assert np.mean(gland[:, 0] < neck[:, 0].mean()) == pytest.approx(0.5, abs=0.2)
    assert len(parts(chest.mask("thyroid_gland"))) == 1, "the isthmus joins the lobes"
    touching = binary_dilation(chest.mask("trachea"), EVERY_NEIGHBOUR, 2) & chest.mask("thyroid_gland")
    assert touching.sum() > 5


def test_twelve_pairs_of_ribs_can_be_told_apart(chest):
    found = [part for part in parts(chest.mask("ribs")) if part.sum() * 0.064 > 3.0]
    assert len(found) == 24
    middle = chest.centre("vertebraes")[0]
    for side in (-1, 1):
        ribs = [rib for rib in found if (chest.centre(rib)[0] - middle) * side > 0]
        assert len(ribs) == 12
        # The height of a rib's joint: where it comes nearest to the middle line, at the back.
        joints = sorted(chest.places(rib)[np.abs(chest.places(rib)[:, 0] - middle).argmin()][2] for rib in ribs)
        assert min(np.diff(joints)) > 12
        assert max(np.diff(joints)) < 34


def test_the_skeleton_holds_the_heart_between_spine_and_breast_bone(chest):
    heart, spine, front = (chest.centre(name) for name in ("heart", "vertebraes", "sternum"))
    assert chest.places("vertebraes")[:, 1].max() < heart[1] < front[1]
    assert chest.places("heart")[:, 1].max() < chest.places("sternum")[:, 1].max()
    assert abs(front[0] - spine[0]) < 20
    # Vertebrae are separate bodies one above the other, with discs between.
    bodies = np.bincount(label(chest.mask("vertebraes"))[0].ravel())[1:]
    assert (bodies * 0.064 > 3.0).sum() >= 12
    cartilage = binary_dilation(chest.mask("costal_cartilages"), EVERY_NEIGHBOUR, 2)
    assert (cartilage & chest.mask("ribs")).any()
    assert (cartilage & chest.mask("sternum")).any()
    assert chest.centre("costal_cartilages")[1] > chest.centre("ribs")[1] + 50
    lungs = np.isin(chest.labels, [thorax_label(name) for name in LOBES])
    ribs = chest.places("ribs")
    for axis, (low, high) in enumerate(zip(ribs.min(axis=0), ribs.max(axis=0), strict=True)):
        inside = chest.places(lungs)[:, axis]
        assert low - 8 < inside.min(), axis
        assert inside.max() < high + 8, axis


def test_back_muscles_flank_the_spine_behind_the_vertebral_bodies(chest):
    left, right, spine = (chest.centre(name) for name in ("autochthon_left", "autochthon_right", "vertebraes"))
    assert left[0] < spine[0] - 12
    assert right[0] > spine[0] + 12
    assert max(left[1], right[1]) < spine[1]
    assert abs(left[2] - right[2]) < 6
    for k in range(5, chest.labels.shape[2] - 5, 10):
        assert chest.mask("autochthon_left")[:, :, k].any()
        assert chest.mask("autochthon_right")[:, :, k].any()


def test_pulmonary_veins_leave_the_heart_to_both_lungs(chest):
    veins, heart = chest.mask("pulmonary_vein"), chest.mask("heart")
    assert (binary_dilation(heart, EVERY_NEIGHBOUR) & veins).any()
    places = chest.places(veins)
    middle = chest.centre("vertebraes")[0]
    for side in (-1, 1):
        assert (places[:, 0] * side > middle * side + 30).sum() > 20


def test_tissues_have_the_density_of_their_kind(chest):
    patient = chest.patient
    for name in LOBES:
        assert -950 < chest.hu_inside(name) < -700
    assert chest.hu_inside("trachea") < -850
    assert chest.hu_inside("aorta") == pytest.approx(1.05 * patient.blood, abs=15)
    assert patient.blood < chest.hu_inside("aorta") < 320
    assert chest.hu_inside("heart") == pytest.approx(60 + 0.25 * patient.blood, abs=25)
    assert 80 < chest.hu_inside("thyroid_gland") < 170
    assert 40 < chest.hu_inside("autochthon_left") < 75
    for name in ("ribs", "vertebraes", "sternum"):
        assert 100 < chest.hu_inside(name) < patient.bone
    assert 60 < chest.hu_inside("costal_cartilages") < 200
    assert chest.hu[chest.mask("ribs")].max() > 250
    # Background holds what a CT also shows: air around, fat under the skin, muscle.
    background = chest.hu[chest.labels == 0]
    for low, high, share in ((-1024, -950, 0.2), (-140, -60, 0.03), (20, 90, 0.1)):
        assert np.mean((background > low) & (background < high)) > share, (low, high)
    assert chest.hu.min() >= -1024
    assert chest.hu.max() < 1500


def test_the_lung_is_denser_at_the_back_as_in_a_lying_patient(chest):
    lung = np.isin(chest.labels, [thorax_label(name) for name in LOBES])
    y, hu = chest.places(lung)[:, 1], chest.hu[lung]
    calm = np.abs(hu - np.median(hu)) < 120
    back, front = calm & (y < np.percentile(y, 25)), calm & (y > np.percentile(y, 75))
    assert np.median(hu[back]) > np.median(hu[front]) + 8


def test_patients_differ_in_shape_and_not_in_noise_alone(coarse):
    for first, second in itertools.pairwise(coarse):
        assert np.mean(first.labels == second.labels) < 0.97
        for name in ("aorta", "heart", "lung_middle_lobe_right", "thyroid_gland"):
            assert first.mask(name).sum() != second.mask(name).sum()
    hearts = [one.millilitres("heart") for one in coarse]
    assert np.std(hearts) > 0.08 * np.mean(hearts)
    assert {one.phantom.description["sex"] for one in coarse} == {"F", "M"}
    assert all(25 <= one.phantom.description["age"] < 88 for one in coarse)


def test_the_same_patient_has_the_same_organs_at_another_spacing(chest):
    other = Chest(chest.phantom.description["seed"], chest.phantom.description["index"], (5.0, 6.0, 3.0))
    for name in THORAX_17[1:]:
        large = chest.millilitres(name) > 150
        assert other.millilitres(name) == pytest.approx(chest.millilitres(name), rel=0.06 if large else 0.25), name
        assert np.linalg.norm(other.centre(name) - chest.centre(name)) < 6.0, name
