"""Structures: identifier, readable name, colour, SNOMED CT code and body system - the one place for names and colours.

Colours follow the paper's systems (cardiovascular red, muscles yellow, bones blue, other organs grey, lung findings
black); within a system each structure has its own shade, and keeps it in every figure, table and scene.
"""

from __future__ import annotations

import colorsys
import re
import zlib
from dataclasses import dataclass
from functools import lru_cache

from Agg2ExpLib.snomed import snomed_of

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Structure:
    """One anatomical structure or finding.

    Attributes
    ----------
    id : str
        The name used in label sets, tables and file names (lower case, underscores).
    name : str
        The name for people, with its side.
    system : str
        A key of :data:`SYSTEMS`.
    colour : tuple of int
        Red, green, blue, 0 to 255.
    snomed : str
        SNOMED CT code of the structure type; empty when there is none.
    laterality : str
        ``"left"``, ``"right"`` or empty; empty too where the code says the side itself.
    """

    id: str
    name: str
    system: str
    colour: RGB
    snomed: str = ""
    laterality: str = ""


#: System -> (readable name, representative colour).
SYSTEMS: dict[str, tuple[str, RGB]] = {
    "cardiovascular": ("cardiovascular", (200, 40, 40)),
    "muscle": ("muscles", (225, 180, 30)),
    "bone": ("bones", (50, 100, 190)),
    "organ": ("other organs", (140, 140, 140)),
    "finding": ("lung findings", (20, 20, 20)),
    "background": ("background", (225, 225, 225)),
}

#: SNOMED CT qualifiers of side.
LATERALITY_SNOMED = {"left": "7771000", "right": "24028007"}

_TABLE = (
    Structure("background", "background", "background", (225, 225, 225)),
    Structure("aorta", "aorta", "cardiovascular", (214, 39, 40), "15825003"),
    Structure("lung_upper_lobe_left", "lung upper lobe left", "organ", (196, 200, 204), "45653009", "left"),
    Structure("lung_lower_lobe_left", "lung lower lobe left", "organ", (128, 134, 140), "90572001", "left"),
    Structure("lung_upper_lobe_right", "lung upper lobe right", "organ", (178, 176, 168), "45653009", "right"),
    Structure("lung_middle_lobe_right", "lung middle lobe right", "organ", (152, 146, 134), "72481006", "right"),
    Structure("lung_lower_lobe_right", "lung lower lobe right", "organ", (112, 106, 96), "90572001", "right"),
    Structure("trachea", "trachea", "organ", (92, 110, 110), "44567001"),
    Structure("heart", "heart", "cardiovascular", (158, 16, 44), "80891009"),
    Structure("pulmonary_vein", "pulmonary vein", "cardiovascular", (240, 110, 100), "122972007"),
    Structure("thyroid_gland", "thyroid gland", "organ", (168, 130, 140), "69748006"),
    Structure("ribs", "ribs", "bone", (66, 133, 214), "113197003"),
    Structure("vertebraes", "vertebrae", "bone", (24, 64, 140), "51282000"),
    Structure("autochthon_left", "deep back muscle left", "muscle", (240, 200, 50), "244849004", "left"),
    Structure("autochthon_right", "deep back muscle right", "muscle", (205, 155, 20), "244849004", "right"),
    Structure("sternum", "sternum", "bone", (100, 175, 235), "56873002"),
    Structure("costal_cartilages", "costal cartilages", "bone", (150, 200, 225), "50016007"),
    Structure("pleural_effusion", "pleural effusion", "finding", (45, 45, 60), "60046008"),
    Structure("consolidation", "consolidation", "finding", (70, 60, 55), "95436008"),
    Structure("nodule", "lung nodule", "finding", (15, 15, 15), "427359005"),
    Structure("pneumothorax", "pneumothorax", "finding", (60, 75, 75), "36118008"),
)
_BY_ID = {structure.id: structure for structure in _TABLE}

#: The paper's 17 classes in the published order and spelling; class 0 is background.
THORAX_17: tuple[str, ...] = tuple(structure.id for structure in _TABLE[:17])

#: Findings that are regions of interest but never classes of the thorax set.
FINDINGS: tuple[str, ...] = tuple(structure.id for structure in _TABLE[17:])

# How names of other label sets (TotalSegmentator's and the like) tell their system.
_SYSTEM_WORDS = (
    ("finding", r"effusion|consolidation|nodule|pneumothorax|tumou?r|lesion|infiltrate|cyst|h(a)?emorrhage"),
    (
        "bone",
        r"rib|vertebra|sternum|costal|clavicula|scapula|humerus|femur|hip$|hip_|sacrum|skull|tibia|fibula|radius|ulna|patella",
    ),
    ("muscle", r"autochthon|gluteus|iliopsoas|muscle|psoas"),
    ("cardiovascular", r"aorta|heart|arter|vein|vena|atri|ventric|trunk|carotid|subclavian|myocard|coronar"),
)
#: Groups that people look for regions by, in the order of lists; what fits none is ``other``.
GROUPS: tuple[tuple[str, str], ...] = (
    ("lungs", r"lung|trachea|bronch|pleura|airway"),
    ("heart", r"heart|atri|ventric|myocard|pericard"),
    ("vessels", r"aorta|arter|vein|vena|trunk|carotid|subclavian|coronar|vessel"),
    ("bones", ""),
    ("muscles", ""),
    ("gut", r"esophag|stomach|duoden|bowel|colon|ileum|jejun|rectum|gallbladder"),
    ("glands", r"gland|liver|pancreas|thyroid|adrenal|parotid|submandibular|prostate|thymus"),
    ("kidneys and bladder", r"kidney|bladder|ureter|urethra"),
    ("findings", ""),
    ("other", ""),
)
_GROUP_OF_SYSTEM = {"bone": "bones", "muscle": "muscles", "finding": "findings", "background": "other"}
# Organs of the abdomen and neck, told apart at a glance and unlike vessels, bones and muscles.
_ORGANS: tuple[tuple[str, RGB], ...] = (
    (r"liver", (178, 88, 56)),
    (r"spleen", (142, 84, 190)),
    (r"kidney", (206, 92, 150)),
    (r"stomach", (92, 168, 104)),
    (r"pancreas", (232, 150, 92)),
    (r"gallbladder", (52, 140, 60)),
    (r"bladder", (120, 196, 220)),
    (r"colon", (60, 178, 162)),
    (r"bowel|ileum|jejunum", (150, 198, 84)),
    (r"duodenum", (108, 138, 56)),
    (r"(o)?esophagus", (196, 120, 208)),
    (r"adrenal", (250, 132, 190)),
    (r"prostate|uterus", (168, 96, 128)),
    (r"brain|spinal_cord", (112, 100, 214)),
)
_SYSTEM_HUES = {"cardiovascular": (0.97, 0.05), "muscle": (0.10, 0.15), "bone": (0.54, 0.66)}


def structure(identifier: str) -> Structure:
    """Return the structure of that name; an unknown name gets its system and a steady colour from its words.

    Examples
    --------
    >>> structure("heart").system
    'cardiovascular'
    >>> structure("gluteus_maximus_left").system, structure("gluteus_maximus_left").laterality
    ('muscle', 'left')
    """
    known = _BY_ID.get(identifier)
    return known if known else _guess(identifier)


def group_of(identifier: str) -> str:
    """Return which of :data:`GROUPS` a structure or region belongs to, by its name.

    Examples
    --------
    >>> [group_of(name) for name in ("rib_left_4", "heart_atrium_left", "colon", "label 7")]
    ['bones', 'heart', 'gut', 'other']
    """
    found, words = _GROUP_OF_SYSTEM.get(structure(identifier).system), identifier.lower()
    if found or "brain" in words:
        return found or "other"
    return next((name for name, pattern in GROUPS if pattern and re.search(pattern, words)), "other")


def thorax_label(identifier: str) -> int:
    """Return the class index of a thorax-17 structure.

    Examples
    --------
    >>> thorax_label("trachea")
    7
    """
    return THORAX_17.index(identifier)


# Tables of a large model ask for the same hundred names thousands of times.
@lru_cache(maxsize=4096)
def _guess(identifier: str) -> Structure:
    words = identifier.lower()
    system = next((name for name, pattern in _SYSTEM_WORDS if re.search(pattern, words)), "organ")
    side = next((side for side in ("left", "right") if re.search(rf"(^|[_ ]){side}([_ ]|$)", words)), "")
    code, told = snomed_of(identifier)
    name, colour = identifier.replace("_", " "), _shade(identifier, system)
    return Structure(identifier, name, system, colour, code, told if code else side)


def _shade(identifier: str, system: str) -> RGB:
    """A shade within the system's hues that depends on the name alone (crc32: the same in every process)."""
    code = zlib.crc32(identifier.encode())
    first, second = (code % 1000) / 1000, (code // 1000 % 1000) / 1000
    if system in _SYSTEM_HUES:
        low, high = _SYSTEM_HUES[system]
        hue = (low + first * ((high - low) % 1.0)) % 1.0
        red, green, blue = colorsys.hsv_to_rgb(hue, 0.55 + 0.4 * second, 0.65 + 0.3 * first)
    elif system == "finding":
        red, green, blue = (0.05 + 0.2 * first,) * 3
    else:
        known = next((colour for pattern, colour in _ORGANS if re.search(pattern, identifier.lower())), None)
        if known:
            # Left and right differ a little, as the lobes of the lungs do.
            factor = 0.8 if re.search(r"(^|[_ ])right([_ ]|$)", identifier.lower()) else 1.0
            return round(known[0] * factor), round(known[1] * factor), round(known[2] * factor)
        # Greens and purples: reds are vessels, yellows muscles, blues bones.
        hue = 0.24 + 0.5 * first if first < 0.5 else 0.72 + 0.38 * (first - 0.5)
        red, green, blue = colorsys.hsv_to_rgb(hue, 0.35 + 0.35 * second, 0.55 + 0.35 * second)
    return round(red * 255), round(green * 255), round(blue * 255)
