"""The anatomy of the thorax phantom: from the skin inwards, each structure painted over the ones before it.

Proportions follow an adult in supine position with the arms raised; distances are mm in patient coordinates. Muscle,
fat, abdominal organs, oesophagus, pulmonary arteries, venae cavae, clavicles, shoulder blades and discs are there too,
as background: a network that told structures apart by density alone would fail on them, as on a real CT.
"""

from __future__ import annotations

import numpy as np

from Agg2ExpLib.anatomy import thorax_label
from Agg2ExpLib.phantom.patient import Patient
from Agg2ExpLib.phantom.shapes import (
    Array,
    Box,
    Canvas,
    along_z,
    ellipsoid,
    rounded_box,
    rounded_section,
    smooth_curve,
    tube,
)

FAT_HU, WALL_HU = -100.0, 35.0
_BODY_Z = (-170, 0, 60, 100, 128, 142, 170)
_CAGE_Z = (-170, -100, -50, 0, 40, 75, 100, 118, 130, 170)

#: Height of the costovertebral joint of ribs 1 to 12.
RIB_HEIGHTS = tuple(118.0 - 21.8 * index for index in range(12))
# How far round the chest each rib goes (degrees from the spine) and how far its front end hangs below its joint.
_RIB_TURN = (150, 150, 148, 146, 144, 142, 140, 128, 116, 104, 76, 52)
_RIB_DROP = (27, 37, 44, 50, 55, 60, 64, 60, 55, 50, 36, 22)
_STERNUM_JOINTS = (82, 66, 44, 20, -4, -26, -44)


class Thorax:
    """Paints one patient on a canvas and keeps the surfaces that findings need (``pleura``: distance to each lung)."""

    def __init__(self, canvas: Canvas, patient: Patient) -> None:
        self.canvas, self.patient = canvas, patient
        self.rng = np.random.default_rng(patient.texture_seed)
        half_x = (128, 130, 128, 122, 110, 90, 64, 44, 16, 10)
        half_y = np.array((82, 84, 82, 78, 70, 56, 42, 30, 10, 8)) * patient.cage_depth
        self.cage_x, self.cage_y = along_z(_CAGE_Z, half_x), along_z(_CAGE_Z, half_y)
        self.cage_middle = along_z(_CAGE_Z, (5, 5, 5, 5, 3, -6, -14, -22, -26, -26))
        self.spine_y = along_z(
            np.linspace(-170, 170, 18),
            -54 - patient.kyphosis * np.cos(np.pi * (np.linspace(-170, 170, 18) - 20) / 190),
        )
        self.pleura: dict[str, Array] = {}
        self.heart_distance: tuple[Box, Array] | None = None

    def paint(self) -> None:
        """Paint everything, outside first."""
        self._body()
        self._lungs()
        self._mediastinum()
        self._heart_and_vessels()
        self._airways()
        self._thyroid()
        self._muscles()
        self._skeleton()

    # -- body -------------------------------------------------------------------------------------------------------

    def _body(self) -> None:
        canvas, patient = self.canvas, self.patient
        at = canvas.at(canvas.everywhere)
        x, y, z = at
        half_x = along_z(_BODY_Z, (154, 154, 156, 156, 112, 66, 58))(z)
        half_y = along_z(_BODY_Z, (114, 114, 106, 92, 74, 62, 58))(z)
        middle = along_z(_BODY_Z, (-6, -8, -16, -24, -30, -28, -28))(z)
        skin = rounded_section(x, y - middle, half_x, half_y, 2.5)
        self.skin = skin
        canvas.paint(canvas.everywhere, skin, 20.0)
        canvas.paint(canvas.everywhere, skin + 1.6, FAT_HU)
        canvas.paint(canvas.everywhere, skin + patient.fat, patient.muscle - 8.0)
        couch = np.abs(np.sqrt(x * x + (y - 330.0) ** 2) - 466.0) - 3.0
        canvas.paint(canvas.everywhere, np.maximum(couch, np.maximum(-skin, np.abs(x) - 160.0)), -450.0)
        self.cage = rounded_section(x, y - self.cage_middle(z), self.cage_x(z), self.cage_y(z), 2.3)
        # Between ribs: intercostal muscle with the fat that lines it.
        canvas.paint(canvas.everywhere, self.cage - 11.0, patient.muscle - 25.0)
        canvas.paint(canvas.everywhere, np.maximum(self.cage + 0.5, np.abs(z) - 200.0), patient.muscle - 5.0)
        self._abdomen(x, y, z)

    def _abdomen(self, x: Array, y: Array, z: Array) -> None:
        canvas, patient = self.canvas, self.patient
        everywhere = canvas.everywhere
        curve = lambda cx, cy, rx, ry: ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2  # noqa: E731
        right = patient.dome_right - 46.0 * curve(62.0, 4.0, 72.0, 88.0)
        left = patient.dome_left - 46.0 * curve(-66.0, 0.0, 66.0, 84.0)
        middle = min(patient.dome_left, patient.dome_right) - 14.0 - 30.0 * curve(0.0, 30.0, 60.0, 60.0)
        self.diaphragm = z - np.maximum(np.maximum(right, left), middle)
        below = np.maximum(self.diaphragm, self.cage)
        canvas.paint(everywhere, below, FAT_HU + 8.0)
        organ = 55.0 + 0.25 * patient.blood
        liver = np.maximum(below + 3.5, ellipsoid((x, y, z), (52.0, 6.0, -128.0), (82.0, 76.0, 92.0)))
        stomach = np.maximum(below + 4.0, ellipsoid((x, y, z), (-52.0, 18.0, -132.0), (46.0, 46.0, 60.0)))
        spleen = np.maximum(below + 4.0, ellipsoid((x, y, z), (-92.0, -34.0, -128.0), (34.0, 38.0, 52.0)))
        canvas.paint(everywhere, stomach, 32.0)
        bubble = np.maximum(stomach + 5.0, 42.0 - y)
        canvas.paint(everywhere, bubble, -950.0)
        canvas.paint(everywhere, spleen, organ + 10.0)
        canvas.paint(everywhere, liver, organ)

    # -- lungs ------------------------------------------------------------------------------------------------------

    def _lungs(self) -> None:
        canvas, patient = self.canvas, self.patient
        everywhere = canvas.everywhere
        x, y, z = canvas.at(everywhere)
        # The mediastinum is narrow behind the breast bone and wide at the spine; its axis leans to the left.
        half = np.interp(y, [-90, -60, -20, 20, 60, 90], [22, 26, 30, 28, 17, 6]).astype(np.float32)
        half = half * np.interp(z, [-150, -40, 40, 100, 130], [1.0, 1.0, 1.0, 0.95, 1.1]).astype(np.float32)
        middle = np.interp(z, [-150, -30, 40, 130], [-4, -4, -1, 0]).astype(np.float32)
        inside = np.maximum(self.cage + 2.5, -self.diaphragm + 2.0)
        texture = self._texture(12.0) * 22.0 + self._texture(4.0) * 28.0
        # Supine: the dependent (posterior) lung is denser.
        density = patient.lung + texture - 0.35 * (y + 10.0)
        for side, sign in (("left", -1.0), ("right", 1.0)):
            lung = np.maximum(inside, half - sign * (x - middle))
            self.pleura[side] = lung
            canvas.paint(everywhere, lung, density)
            self._lobes(side, lung, x, y, z)
        self._lung_vessels()

    def _lobes(self, side: str, lung: Array, x: Array, y: Array, z: Array) -> None:
        canvas, patient = self.canvas, self.patient
        offset, slope_y, slope_x = patient.fissure_left if side == "left" else patient.fissure_right
        bow = 5.0 * np.sin(y / 28.0) + 3.0 * np.sin(x / 22.0)
        oblique = (z - offset + slope_y * y + slope_x * (x if side == "right" else -x) + bow) / np.hypot(1.0, slope_y)
        lobes = [(f"lung_lower_lobe_{side}", oblique)]
        sheets = [np.abs(oblique)]
        if side == "left":
            lobes.append(("lung_upper_lobe_left", -oblique))
        else:
            height, tilt_y, tilt_x = patient.horizontal_fissure
            horizontal = z - height - tilt_y * y - tilt_x * x + 3.0 * np.sin(y / 20.0)
            lobes.append(("lung_middle_lobe_right", np.maximum(-oblique, horizontal)))
            lobes.append(("lung_upper_lobe_right", np.maximum(-oblique, -horizontal)))
            sheets.append(np.maximum(np.abs(horizontal), -oblique))
        for sheet in sheets:
            canvas.paint(canvas.everywhere, np.maximum(sheet - 0.9, lung + 1.0), -560.0)
        for name, part in lobes:
            canvas.labels[(lung < 0) & (part <= 0)] = thorax_label(name)

    def _lung_vessels(self) -> None:
        """Branching vessels, thinner towards the pleura; they belong to their lobe, as in TotalSegmentator's masks."""
        canvas = self.canvas
        for side, sign in (("left", -1.0), ("right", 1.0)):
            for _ in range(20):
                start = np.array([sign * 34.0, -16.0, self.rng.uniform(-22.0, 22.0)])
                reach = self.rng.uniform([70, -66, -95], [118, 70, 95]) * [sign, 1.0, 1.0]
                bend = 0.5 * (start + reach) + self.rng.normal(0.0, 9.0, 3)
                curve = smooth_curve([start, bend, reach], 14)
                box, distance = tube(canvas, curve, np.linspace(3.4, 0.7, 14))
                canvas.paint(box, np.maximum(distance, self.pleura[side][box] + 3.0), self.patient.blood * 0.7)

    def _texture(self, scale: float) -> Array:
        """Smooth random field of unit spread; drawn on a fixed lattice in patient space, so any spacing sees the same."""
        from scipy.ndimage import map_coordinates

        lattice = self.rng.normal(size=tuple(int(np.ceil(d / scale)) + 4 for d in (380, 320, 360)))
        index = [
            (c + half) / scale + 1.0
            for c, half in zip((self.canvas.x, self.canvas.y, self.canvas.z), (190, 160, 180), strict=True)
        ]
        return map_coordinates(lattice.astype(np.float32), index, order=1, mode="nearest").astype(np.float32) * 1.5

    # -- middle of the chest ------------------------------------------------------------------------------------------

    def _mediastinum(self) -> None:
        canvas = self.canvas
        x, y, z = canvas.at(canvas.everywhere)
        lungs = np.minimum(self.pleura["left"], self.pleura["right"])
        between = np.maximum(np.maximum(self.cage, -lungs + 2.0), np.maximum(-self.diaphragm, np.abs(x) - 70.0))
        canvas.paint(canvas.everywhere, between, FAT_HU + 15.0)
        neck = np.maximum(ellipsoid((x, y, z * 0), (0, -12, 0), (44, 34, 1e4)), 122.0 - z)
        canvas.paint(canvas.everywhere, neck, self.patient.muscle - 15.0)
        oesophagus = smooth_curve([(-4, -34, 160), (-5, -36, 70), (-2, -34, 0), (-10, -24, -70), (-20, -8, -100)])
        canvas.paint(*tube(canvas, oesophagus, 7.0), 32.0, 0)

    def _heart_and_vessels(self) -> None:
        canvas, patient = self.canvas, self.patient
        blood = patient.blood
        centre, radii = patient.heart_centre, patient.heart_radii
        cx, cy, cz = centre
        arch = patient.arch_height
        # Tubes that are background: great veins and pulmonary arteries.
        for curve, radius in (
            ([(30, -4, 118), (27, 6, 70), (24, 4, 20), (cx + 42, cy - 14, cz + 22)], 9.0),
            ([(24, -12, -165), (22, -8, -110), (cx + 42, cy - 18, cz - 18)], 12.0),
            ([(cx + 14, cy + 20, cz + 34), (-16, 22, 14), (-16, 0, 26)], 13.0),
            ([(-16, 2, 26), (10, -6, 22), (34, -14, 18), (52, -18, 10)], 9.5),
            ([(-16, 2, 26), (-30, -14, 24), (-48, -22, 14)], 9.0),
        ):
            canvas.paint(*tube(canvas, smooth_curve(curve, 18), radius), blood * 0.92, 0)
        self._heart(centre, radii, blood)
        veins = ((52, -18, 0), (50, -22, -28), (-52, -20, 4), (-50, -24, -26))
        for target, shift in zip(veins, patient.vein_shift, strict=True):
            side = np.sign(target[0])
            start = (cx + 16 + 12 * side, cy - 26, cz + 12 + 0.35 * (target[2] + 10))
            middle = (0.5 * (start[0] + target[0]), -12.0, 0.5 * (start[2] + target[2]))
            vein = smooth_curve([start, middle, np.add(target, shift)], 14)
            canvas.paint(*tube(canvas, vein, np.linspace(7.6, 6.0, 14)), blood, thorax_label("pulmonary_vein"))
        aorta = smooth_curve(
            [
                (cx + 24, cy - 6, cz + 26),
                (15, 18, 22),
                (12, 14, arch - 16),
                (0, -2, arch),
                (-13, -22, arch - 4),
                (-22, -38, arch - 24),
                (-24, -43, 0),
                (-19, -39, -70),
                (-8, -35, -170),
            ],
            48,
        )
        radii_aorta = patient.aorta_radius * np.interp(
            np.linspace(0, 1, 48), [0, 0.25, 0.45, 1], [1.18, 1.1, 0.98, 0.86]
        )
        for branch in (
            [(8, 6, arch), (12, 2, 110), (18, -8, 165)],
            [(-8, -14, arch), (-14, -16, 112), (-20, -14, 165)],
        ):
            canvas.paint(*tube(canvas, smooth_curve(branch, 14), 4.5), blood, 0)
        box, distance = tube(canvas, aorta, radii_aorta)
        canvas.paint(box, distance - 1.2, WALL_HU + 10)
        canvas.paint(box, distance, blood * 1.05, thorax_label("aorta"))

    def _heart(self, centre: Array, radii: Array, blood: float) -> None:
        """A heart that leans to the left and front: muscle, with the four cavities inside."""
        from scipy.spatial.transform import Rotation

        canvas = self.canvas
        turn = Rotation.from_euler("zy", [-32.0, -24.0], degrees=True).as_matrix().T
        box = canvas.box(centre - radii.max() - 8, centre + radii.max() + 8)
        moved = [c - m for c, m in zip(canvas.at(box), centre, strict=True)]
        own = tuple(sum(turn[row, axis] * moved[axis] for axis in range(3)) for row in range(3))
        outer = ellipsoid(own, (0, 0, 0), radii)
        canvas.paint(box, outer - 3.5, FAT_HU + 10.0)
        canvas.paint(box, outer, 60.0 + 0.25 * blood, thorax_label("heart"))
        self.heart_distance = (box, outer)
        for where, size in (
            ((-0.38, -0.28, 0.0), (0.36, 0.42, 0.5)),
            ((-0.28, 0.42, -0.05), (0.42, 0.36, 0.55)),
            ((0.48, -0.36, 0.25), (0.3, 0.4, 0.5)),
            ((0.5, 0.34, 0.1), (0.28, 0.42, 0.55)),
        ):
            cavity = ellipsoid(own, np.array(where) * radii, np.array(size) * radii)
            canvas.paint(box, np.maximum(cavity, outer + 5.0), blood)

    def _airways(self) -> None:
        canvas, patient = self.canvas, self.patient
        carina, radius = patient.carina, patient.trachea_radius
        fork = (2.0, -22.0, carina)
        pipes = [
            (smooth_curve([(0, -12, 172), (1, -16, 100), fork], 24), np.full(24, radius)),
            (
                smooth_curve([fork, (18, -25, carina - 16), (36, -26, carina - 28)], 12),
                np.linspace(0.85, 0.66, 12) * radius,
            ),
            (
                smooth_curve([fork, (-18, -27, carina - 19), (-42, -28, carina - 33)], 12),
                np.linspace(0.78, 0.6, 12) * radius,
            ),
            (smooth_curve([(34, -26, carina - 27), (46, -22, carina - 6)], 6), np.full(6, 0.45 * radius)),
            (smooth_curve([(34, -26, carina - 27), (44, -30, carina - 56)], 6), np.full(6, 0.5 * radius)),
            (smooth_curve([(-40, -28, carina - 33), (-52, -20, carina - 16)], 6), np.full(6, 0.45 * radius)),
            (smooth_curve([(-40, -28, carina - 33), (-50, -34, carina - 60)], 6), np.full(6, 0.48 * radius)),
        ]
        drawn = [tube(canvas, curve, radii) for curve, radii in pipes]
        for box, distance in drawn:
            canvas.paint(box, distance - 1.8, WALL_HU, None)
        for box, distance in drawn:
            canvas.paint(box, distance, -985.0, thorax_label("trachea"))

    def _thyroid(self) -> None:
        canvas, scale = self.canvas, self.patient.thyroid_scale
        hu = 105.0 + 0.2 * self.patient.blood
        for side in (-1.0, 1.0):
            centre = (side * (self.patient.trachea_radius + 8.5), -8.0, 131.0)
            box = canvas.box(np.subtract(centre, 34), np.add(centre, 34))
            lobe = ellipsoid(canvas.at(box), centre, np.array([9.0, 11.0, 22.0]) * scale)
            airway = canvas.labels[box] == thorax_label("trachea")
            canvas.paint(box, np.where(airway, 5.0, lobe), hu, thorax_label("thyroid_gland"))
        radius = self.patient.trachea_radius
        bridge = smooth_curve([(-radius - 6, -4, 124), (0, -12 + radius + 4, 124), (radius + 6, -4, 124)], 10)
        box, distance = tube(canvas, bridge, 4.6, flatten=1.5)
        airway = canvas.labels[box] == thorax_label("trachea")
        canvas.paint(box, np.where(airway, 5.0, distance), hu, thorax_label("thyroid_gland"))

    # -- muscles and bones --------------------------------------------------------------------------------------------

    def _muscles(self) -> None:
        canvas, patient = self.canvas, self.patient
        for side, name, size in (
            (-1.0, "autochthon_left", patient.back_muscle[0]),
            (1.0, "autochthon_right", patient.back_muscle[1]),
        ):
            box = canvas.box((min(side * 4, side * 54), -128, -175), (max(side * 4, side * 54), -66, 175))
            x, y, z = canvas.at(box)
            width = np.interp(z, [-150, -60, 60, 150], [23, 20, 17, 15]).astype(np.float32) * size
            depth = np.interp(z, [-150, -60, 60, 150], [15, 13.5, 12, 11]).astype(np.float32) * size
            middle = self.spine_y(z) - 31.0
            muscle = rounded_section(x - side * (width + 5.0), y - middle, width, depth, 2.4)
            muscle = np.maximum(muscle, self.skin[box] + 3.0)
            canvas.paint(box, muscle - 1.5, FAT_HU + 20.0)
            streaks = 14.0 * np.sin(x * 0.9 + 0.15 * z) * np.sin(y * 0.8)
            canvas.paint(box, muscle, patient.muscle + 4.0 + streaks - 10.0, thorax_label(name))

    def _skeleton(self) -> None:
        self._other_bones()
        self._cartilages_and_ribs()
        self._sternum()
        self._spine()

    def _bone(self, box: Box, distance: Array, label: int, shell: float = 1.6) -> None:
        """Cortical bone outside, trabecular bone inside."""
        self.canvas.paint(box, distance, self.patient.bone, label)
        self.canvas.paint(box, distance + shell, 0.38 * self.patient.bone)

    def _other_bones(self) -> None:
        canvas = self.canvas
        for side in (-1.0, 1.0):
            clavicle = smooth_curve(
                [(side * 20, 46, 100), (side * 60, 34, 112), (side * 100, -2, 122), (side * 132, -26, 120)], 16
            )
            box, distance = tube(canvas, clavicle, 5.6)
            self._bone(box, distance, 0)
            box = canvas.box((min(side * 70, side * 140), -120, -20), (max(side * 70, side * 140), -50, 110))
            x, y, z = canvas.at(box)
            plate = rounded_box(
                (x, y, z),
                (side * 102.0, -82.0 - 0.28 * (np.abs(x) - 102.0), 44.0),
                (28.0 - 0.22 * np.abs(z - 60.0), 2.6, 52.0),
            )
            canvas.paint(box, plate, 0.7 * self.patient.bone, 0)

    def rib_curve(self, index: int, side: float) -> Array:
        """Centre line (n, 3) of rib ``index`` (0 to 11), from the spine to its front end; ``side`` is -1 left, 1 right."""
        joint = RIB_HEIGHTS[index]
        spine = float(self.spine_y(np.float32(joint)))
        turn = np.radians(np.linspace(18.0, _RIB_TURN[index], 26))
        fraction = np.linspace(0.0, 1.0, 26)
        z = joint - _RIB_DROP[index] * self.patient.rib_drop * fraction**1.15
        half_x, half_y = self.cage_x(z) + 5.0, self.cage_y(z) + 5.0
        power = 2.0 / 2.3
        x = side * half_x * np.sin(turn) ** power
        y = self.cage_middle(z) - half_y * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power
        head = np.array(
            [
                (side * 15.0, spine - 7.0, joint),
                (side * 0.55 * abs(x[0]) + side * 9.0, 0.5 * (spine - 10.0 + y[0]), joint),
            ]
        )
        return smooth_curve(np.vstack([head, np.column_stack([x, y, z])]), 34)

    def _cartilages_and_ribs(self) -> None:
        canvas, patient = self.canvas, self.patient
        label = thorax_label("costal_cartilages")
        ribs = {(i, s): self.rib_curve(i, s) for i in range(12) for s in (-1.0, 1.0)}
        for side in (-1.0, 1.0):
            previous: Array | None = None
            for index in range(10):
                end = ribs[index, side][-1]
                if index < 7:
                    height = float(_STERNUM_JOINTS[index])
                    target = np.array([side * patient.sternum_width * 0.9, self.front_of(height), height])
                    bend = 0.5 * (end + target) + np.array([0.0, 3.0, -3.0 - 1.5 * index])
                    curve = smooth_curve([end, bend, target], 16)
                else:
                    assert previous is not None  # rib 7 comes first
                    target = previous[7]
                    curve = smooth_curve([end, 0.5 * (end + target) + np.array([0.0, 2.0, -3.0]), target], 12)
                previous = curve
                box, distance = tube(canvas, curve, 5.3, flatten=1.15)
                canvas.paint(box, distance, patient.cartilage, label)
        for curve in ribs.values():
            box, distance = tube(canvas, curve, patient.rib_radius, flatten=1.3)
            self._bone(box, distance, thorax_label("ribs"))

    def front_of(self, z: float) -> float:
        """The y (mm) of the breast bone's middle plane at height ``z``."""
        height = np.float32(z)
        return float(self.cage_middle(height) + self.cage_y(height) + 6.0)

    def _sternum(self) -> None:
        canvas, patient = self.canvas, self.patient
        box = canvas.box((-45, 20, -90), (45, 110, 108))
        x, y, z = canvas.at(box)
        width = patient.sternum_width * np.interp(
            z, [-78, -62, -50, 30, 58, 70, 92], [0.35, 0.5, 1.0, 0.85, 0.9, 1.5, 1.7]
        )
        middle = self.cage_middle(z) + self.cage_y(z) + 6.0
        bone = rounded_box((x, y, z), (0.0, middle, 8.0), (width.astype(np.float32) - 3.0, 2.8, 82.0)) - 3.0
        self._bone(box, bone, thorax_label("sternum"), shell=1.4)

    def _spine(self) -> None:
        canvas, patient = self.canvas, self.patient
        label, size = thorax_label("vertebraes"), patient.vertebra_scale
        box = canvas.box((-44, -120, -175), (44, -28, 175))
        x, y, z = canvas.at(box)
        growth = size * np.interp(z, [-150, 150], [1.12, 0.78]).astype(np.float32)
        middle = self.spine_y(z)
        body = rounded_section(x, y - middle, 16.5 * growth, 13.0 * growth, 2.5)
        step = 21.8
        # Distance to the middle plane of the nearest vertebra (those of the twelve rib joints, continued both ways).
        phase = np.mod(z - RIB_HEIGHTS[0] + 0.5 * step, step) - 0.5 * step
        canvas.paint(box, body, 85.0, 0)
        self._bone(box, np.maximum(body, np.abs(phase) - 8.7), label, shell=1.8)
        canal = rounded_section(x, y - (middle - 19.5 * growth), 9.0 * growth, 7.5 * growth)
        arch = rounded_section(x, y - (middle - 19.0 * growth), 14.5 * growth, 12.5 * growth)
        arch = np.maximum(np.maximum(arch, -canal), np.abs(phase) - 7.5)
        slope = phase + 0.35 * (y - (middle - 26.0))
        spinous = rounded_box((x, y, slope), (0.0, middle - 37.0, 0.0), (2.4, 10.0 * growth, 5.0)) - 1.6
        transverse = (
            rounded_box((x, y + 0.35 * np.abs(x), phase), (0.0, middle - 14.0, 0.0), (27.0 * size, 3.2, 4.2)) - 1.4
        )
        transverse = np.maximum(transverse, 9.0 * growth - np.abs(x))
        processes = np.maximum(np.minimum(np.minimum(arch, spinous), transverse), -canal)
        canvas.paint(box, canal, 30.0, 0)
        self._bone(box, processes, label, shell=2.0)
