"""The documents: their code runs, their pictures and links are there, the checklist speaks of every requirement."""

import inspect
import re
from pathlib import Path

import numpy as np

from Testing.bench.fixtures import add_ct, add_findings, turn
from Testing.bench.small_explanation import SHAPE

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(text):
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_tutorials_code_runs_line_by_line_in_its_order(module, settings, monkeypatch, capsys):
    import SampleData
    import slicer
    import slicer.util

    logic = module.Agg2ExpLogic()
    spot = np.zeros(SHAPE, dtype=bool)
    spot[4:8, 4:8, 4:8] = True
    findings = add_findings(spot=spot)
    scored = []
    monkeypatch.setattr(slicer.util, "getModuleLogic", lambda name: {"Agg2Exp": logic}[name])
    monkeypatch.setattr(slicer.util, "getNode", lambda name: {"my findings": findings}[name])
    monkeypatch.setattr(SampleData, "downloadSample", lambda name: {"Thorax phantom CT": add_ct}[name](), raising=False)

    def only_bound(name, answer):
        # Cohorts and scores have tests of their own; here it is enough that the calls fit.
        signature = inspect.signature(getattr(logic, name))

        def call(*given, **named):
            scored.append((name, signature.bind(*given, **named)))
            return answer

        monkeypatch.setattr(logic, name, call)

    only_bound("runCohort", {"folder": "cohort"})
    only_bound("fitProfile", Path("healthy.npz"))
    only_bound("scoreAgainst", None)
    names = {"slicer": slicer}
    found = snippets(TUTORIAL)
    for number, code in enumerate(found):
        exec(compile(code, f"docs/tutorial.md, snippet {number + 1}", "exec"), names)
    assert len(found) >= 7
    assert [name for name, _ in scored] == ["runCohort", "fitProfile", "scoreAgainst"]
    assert set(names["matrix"].index) == {row["class"] for row in names["rows"]}
    assert names["heart"]["mass"].between(0, 1).all()
    said = capsys.readouterr().out
    assert "heart 0.0 13.8 0.0" in said
    assert "attributions" in said
    assert turn(lambda: not names["task"].running)
    logic.stopAll()


def test_every_picture_and_file_that_a_document_points_to_is_there():
    missing, pointing = [], set()
    for document in DOCUMENTS:
        targets = re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
        local = [target for target in targets if "://" not in target]
        missing += [f"{document.name}: {target}" for target in local if not (document.parent / target).exists()]
        pointing |= {document.name for _ in targets}
    assert missing == []
    assert {"README.md", "tutorial.md"} <= pointing


def test_every_step_of_the_clinicians_parts_has_a_picture():
    parts = [part.partition("\n")[2] for part in TUTORIAL.split("\n## ")[1:3]]
    steps = [step for part in parts for step in re.split(r"^\d\. ", part, flags=re.MULTILINE)[1:]]
    assert len(steps) >= 9
    assert [step[:60] for step in steps if "![" not in step] == []


def test_the_checklist_answers_every_tier():
    text = (ROOT / "docs" / "tier3.md").read_text(encoding="utf-8")
    for heading in ("## Tier 1", "## Tier 3", "## Tier 5"):
        assert heading in text
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| ") and "requirement" not in line]
    assert len(rows) > 20
    assert [row for row in rows if len(row[1].strip()) < 10] == []
