"""Make what the sample is compared with: a reference profile of healthy phantoms, and some of the cases behind it.

Usage: python -m Agg2ExpLib.studies.phantom_study --out STUDY
       python Resources/SampleData/make_reference.py STUDY

The first command takes hours on a CPU, and only its 60 reference phantoms are needed here; the second takes seconds. Run both
whenever the bundled model changes, the second whenever the sample does, and commit what it writes under
``Agg2Exp/Resources/SampleData``. Files of CT and ground truth are not kept: the tables name them by their place in the study.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from Agg2ExpLib.cohort.judge.profile import fit_profile
from Agg2ExpLib.cohort.judge.score_files import write_scores
from Agg2ExpLib.cohort.judge.scoring import score_table
from Agg2ExpLib.cohort.run.store import DOCUMENT, CohortFolder, arrow
from Agg2ExpLib.cohort.table.assemble import assemble
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.panel.samples import COHORT, FOLDER, PROFILE, SCORES
from Agg2ExpLib.storage import replace_folder

RESOURCES = Path(__file__).resolve().parents[2] / "Agg2Exp" / "Resources"
#: Cases that are shipped; the profile has them all.
CASES = 20


def main(study: Path) -> Path:
    """Write the reference and return its folder."""
    source, target = CohortFolder(study / "reference"), RESOURCES / COHORT
    profile = fit_profile(CohortTable.read(source.folder))
    with tempfile.TemporaryDirectory(prefix=".make-reference-", dir=target.parent) as name:
        made = CohortFolder(Path(name) / target.name)
        made.parts.mkdir(parents=True)
        document = source.document()
        document["cases"] = [placeless(one) for one in document["cases"][:CASES]]
        (made.folder / DOCUMENT).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        for one in document["cases"]:
            part = source.read_part(one["id"])
            note = {key: part.provenance[key] for key in ("identity", "seconds", "messages")}
            agreement = {name: part.agreement[name] for name in part.table.classes if name in part.agreement}
            made.write_part(one["id"], part.table, agreement, note | {"sources": {}})
        assemble(made)
        forget_this_machine(made.folder / "cases.parquet", document["cases"])
        profile.save(made.folder / PROFILE)
        sample = CohortTable.of_explanation(Explanation.load(RESOURCES / FOLDER))
        write_scores(profile, score_table(profile, sample), made.folder / SCORES)
        replace_folder(made.folder, target)
    return target


def placeless(case: dict[str, Any]) -> dict[str, Any]:
    """Return a case whose scan is named by its place in the study, and that has no ground truth."""
    return case | {"image": image_of(case), "truth": ""}


def image_of(case: dict[str, Any]) -> str:
    """Return where a case's scan lies in the study."""
    return f"phantoms/reference/{case['id']}/ct.nii.gz"


def forget_this_machine(table: Path, cases: list[dict[str, Any]]) -> None:
    """Name the scans in the table of cases as the document does, not by where they would lie here."""
    pa, pq = arrow()
    found = pq.read_table(table)
    images = pa.array([image_of(case) for case in cases], pa.string())
    pq.write_table(found.set_column(found.schema.get_field_index("image"), "image", images), table)


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
