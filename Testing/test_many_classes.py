"""An explanation of 117 classes stays readable: its terminal report is grouped by body system."""

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.importance import Rois, build_table
from Agg2ExpLib.models.formats.totalsegmentator import TASKS
from Agg2ExpLib.report import grouped_matrix

LABELS = ("background", *(label for _, part in TASKS["total"].parts for label in part))


def test_every_class_has_its_snomed_code_and_says_its_side_once():
    assert [label for label in LABELS[1:] if not structure(label).snomed] == []
    left, right = structure("rib_left_10"), structure("rib_right_10")
    assert (left.snomed, left.laterality, right.laterality) == (right.snomed, "left", "right")
    assert len({(structure(label).snomed, structure(label).laterality) for label in LABELS}) == len(LABELS)
    # "Left atrium" is a code of its own.
    assert (structure("heart_atrium_left").snomed, structure("heart_atrium_left").laterality) == ("82471001", "")


def test_shares_of_117_classes_are_put_together_by_body_system():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 118, (20, 20, 20))
    rois = Rois(labels, LABELS, {"mine": labels > 60})
    rows = {
        name: rois.row(rng.random((1, 20, 20, 20)) * (labels == index), (slice(0, 20),) * 3)
        for index, name in enumerate(LABELS)
        if index
    }
    rows["spleen"] = rois.absent()
    lines = grouped_matrix(build_table(rows, rois.names), LABELS)
    head, (spleen, heart) = lines[1].split(), ("spleen", "heart")
    assert {"muscle", "bone", "organ"} <= set(head)
    (line,) = [one for one in lines if one.strip().startswith(heart)]
    assert line.split()[1:].count("100") == 1
    assert not any(one.strip().startswith(spleen) for one in lines)
    assert lines[-1].strip() == "1 classes are absent from the prediction"
    assert max(map(len, lines)) <= 110
    assert len(lines) == 2 + 116 + 1
