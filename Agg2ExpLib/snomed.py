"""SNOMED CT codes of TotalSegmentator's classes, as its makers list them.

Source: ``totalsegmentator_snomed_mapping.csv`` of https://github.com/wasserth/TotalSegmentator (Apache-2.0). Left and right share
a code and differ by its modifier, but for the chambers of the heart and the middle lobe, whose codes say the side themselves.
For the subclavian arteries the list has the code of the right one alone; here it is that of either.
"""

from __future__ import annotations

import re

_TABLE = """
    23451007 adrenal_gland    15825003 aorta    244849004 autochthon    12738006 brain    51299004 clavicula    71854001 colon
    38848004 duodenum    32849002 esophagus    89545001 face    71341001 femur    28231008 gallbladder    181674001 gluteus_maximus
    78333006 gluteus_medius    75297007 gluteus_minimus    82471001 heart_atrium_left    73829009 heart_atrium_right
    74281007 heart_myocardium    87878005 heart_ventricle_left    53085002 heart_ventricle_right    29836001 hip    85050009 humerus
    73634005 iliac_artery    46027005 iliac_vena    68455001 iliopsoas    64131007 inferior_vena_cava    64033007 kidney
    10200004 liver    90572001 lung_lower_lobe    72481006 lung_middle_lobe_right    45653009 lung_upper_lobe    15776009 pancreas
    110765007 portal_vein_and_splenic_vein    81040000 pulmonary_artery    48535007 rib_1    78247007 rib_2    25888004 rib_3
    25523003 rib_4    15339008 rib_5    59558009 rib_6    24915002 rib_7    5953002 rib_8    22565002 rib_9    77644006 rib_10
    58830002 rib_11    43993008 rib_12    54735007 sacrum    79601000 scapula    30315005 small_bowel    78961009 spleen
    69695003 stomach    44567001 trachea    89837001 urinary_bladder    65985001 vertebrae_S1    14806007 vertebrae_C1
    39976000 vertebrae_C2    113205007 vertebrae_C3    5329002 vertebrae_C4    36978003 vertebrae_C5    36054005 vertebrae_C6
    87391001 vertebrae_C7    66794005 vertebrae_L1    14293000 vertebrae_L2    36470004 vertebrae_L3    11994002 vertebrae_L4
    49668003 vertebrae_L5    64864005 vertebrae_T1    53733008 vertebrae_T2    1626008 vertebrae_T3    73071006 vertebrae_T4
    56401006 vertebrae_T5    45296009 vertebrae_T6    62487009 vertebrae_T7    11068009 vertebrae_T8    82687006 vertebrae_T9
    7610001 vertebrae_T10    12989004 vertebrae_T11    23215003 vertebrae_T12    80891009 heart    122972007 pulmonary_vein
    12691009 brachiocephalic_trunk    36765005 subclavian_artery    32062004 common_carotid_artery    8887007 brachiocephalic_vein
    68786006 atrial_appendage    48345005 superior_vena_cava    367643001 kidney_cyst    41216001 prostate    64234005 patella
    12611008 tibia    87342007 fibula    108371006 tarsal    53884002 metatarsal    28641004 phalanges_feet    23416004 ulna
    62413002 radius    83936004 carpal    36455000 metacarpal    28641004 phalanges_hand    56873002 sternum    89546000 skull
    2748008 spinal_cord    41801008 coronary_arteries    69748006 thyroid_gland    113197003 ribs    50016007 costal_cartilages
    127954009 skeletal_muscle    3572006 vertebrae_body    110726009 lung_trachea_bronchia
"""
_WORDS = _TABLE.split()
_CODES = dict(zip(_WORDS[1::2], _WORDS[::2], strict=True))


def snomed_of(identifier: str) -> tuple[str, str]:
    """Return the code of a class, and the side that its modifier must say; both empty where it is not known.

    Examples
    --------
    >>> snomed_of("rib_left_10"), snomed_of("heart_atrium_left"), snomed_of("aorta"), snomed_of("mass")
    (('77644006', 'left'), ('82471001', ''), ('15825003', ''), ('', ''))
    """
    if identifier in _CODES:
        return _CODES[identifier], ""
    side = re.search(r"_(left|right)(?=_|$)", identifier)
    code = _CODES.get(identifier.replace(side[0], "", 1), "") if side else ""
    return code, side[1] if side and code else ""
