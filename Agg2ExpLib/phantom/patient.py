"""One patient of the phantom: the numbers that differ between patients, drawn once from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from Agg2ExpLib.phantom.shapes import Placement

#: Seed of every patient is ``[STREAM, seed, index]``, so that streams of other purposes never meet it.
STREAM = 20240716


@dataclass(frozen=True)
class Patient:
    """Anatomy of one patient; lengths in mm, densities in HU.

    The draws do not depend on the spacing or on the findings, so the same patient can be scanned again, finer or ill.
    """

    sex: str
    age: int
    placement: Placement
    fat: float
    kyphosis: float
    cage_depth: float
    heart_centre: np.ndarray
    heart_radii: np.ndarray
    aorta_radius: float
    arch_height: float
    trachea_radius: float
    carina: float
    thyroid_scale: np.ndarray
    dome_right: float
    dome_left: float
    fissure_left: np.ndarray
    fissure_right: np.ndarray
    horizontal_fissure: np.ndarray
    rib_radius: float
    rib_drop: float
    vertebra_scale: float
    back_muscle: np.ndarray
    sternum_width: float
    vein_shift: np.ndarray
    blood: float
    muscle: float
    bone: float
    cartilage: float
    lung: float
    noise: float
    blur: float
    texture_seed: int

    @staticmethod
    def draw(seed: int, index: int = 0) -> Patient:
        """Draw patient ``index`` of the cohort ``seed``; the same numbers always give the same patient."""
        rng = np.random.default_rng([STREAM, seed, index])
        sex = "F" if rng.random() < 0.5 else "M"
        age = int(rng.integers(25, 88))
        size = (0.95 if sex == "F" else 1.0) * rng.normal(1.0, 0.02)
        scale = np.clip(size * rng.normal(1.0, [0.025, 0.03, 0.03]), 0.88, 1.05)
        return Patient(
            sex=sex,
            age=age,
            placement=_placement(rng, scale),
            fat=float(np.clip(rng.normal(12.0 if sex == "M" else 14.0, 4.0), 4.0, 22.0)),
            kyphosis=float(4.0 + 0.06 * (age - 25) + rng.normal(0.0, 1.5)),
            cage_depth=float(rng.normal(1.0, 0.04)),
            heart_centre=rng.normal([-20.0, 20.0, -38.0], [4.0, 3.0, 4.0]),
            heart_radii=np.array([63.0, 49.0, 53.0]) * rng.normal(1.0, 0.06) * rng.normal(1.0, 0.03, 3),
            aorta_radius=float(np.clip(rng.normal(12.5 + 0.03 * (age - 55), 1.1), 9.5, 16.5)),
            arch_height=float(rng.normal(64.0, 4.0)),
            trachea_radius=float(np.clip(rng.normal(8.6 if sex == "M" else 7.8, 0.6), 6.5, 10.5)),
            carina=float(rng.normal(40.0, 4.0)),
            thyroid_scale=np.clip(rng.normal(1.0, 0.12, 3), 0.75, 1.3),
            dome_right=float(rng.normal(-62.0, 7.0)),
            dome_left=float(rng.normal(-74.0, 7.0)),
            fissure_left=rng.normal([-5.0, 0.95, 0.0], [7.0, 0.08, 0.08]),
            fissure_right=rng.normal([-12.0, 0.95, 0.0], [7.0, 0.08, 0.08]),
            horizontal_fissure=rng.normal([6.0, 0.05, 0.0], [6.0, 0.06, 0.08]),
            rib_radius=float(np.clip(rng.normal(4.9, 0.35), 4.1, 5.9)),
            rib_drop=float(rng.normal(1.0, 0.07)),
            vertebra_scale=float(np.clip(rng.normal(1.0, 0.05), 0.88, 1.12)),
            back_muscle=np.clip(rng.normal(1.0, 0.08) * rng.normal(1.0, 0.03, 2), 0.8, 1.2),
            sternum_width=float(np.clip(rng.normal(17.0, 1.5), 13.5, 20.5)),
            vein_shift=rng.normal(0.0, 2.5, (4, 3)),
            blood=float(rng.uniform(45.0, 280.0)),
            muscle=float(rng.normal(58.0, 5.0)),
            bone=float(np.clip(rng.normal(520.0 - 2.0 * (age - 55), 60.0), 300.0, 700.0)),
            cartilage=float(np.clip(rng.normal(105.0 + 1.2 * max(age - 50, 0), 20.0), 70.0, 220.0)),
            lung=float(rng.normal(-845.0, 20.0)),
            noise=float(rng.uniform(8.0, 28.0)),
            blur=float(rng.uniform(0.5, 0.9)),
            texture_seed=int(rng.integers(2**31)),
        )


def _placement(rng: np.random.Generator, scale: np.ndarray) -> Placement:
    from scipy.spatial.transform import Rotation

    tilt = Rotation.from_euler("xyz", rng.normal(0.0, [1.0, 1.0, 2.0]), degrees=True).as_matrix()
    waves = np.stack(
        [
            np.stack(
                [
                    rng.normal(size=3) * 2 * np.pi / rng.uniform(220.0, 420.0),
                    rng.uniform(0, 2 * np.pi, 3),
                    rng.normal(0.0, 1.1, 3).clip(-2.2, 2.2),
                ]
            )
            for _ in range(3)
        ]
    )
    return Placement(scale, tilt, rng.normal(0.0, [3.0, 2.0, 3.0]), waves)
