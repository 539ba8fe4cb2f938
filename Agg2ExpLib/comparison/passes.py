"""Network passes of a comparison: what the per-class, per-method procedure needs, and progress measured in passes."""

from __future__ import annotations

from Agg2ExpLib.comparison.plan import MethodSpec, Plan
from Agg2ExpLib.progress import Progress


def passes_of_one(plan: Plan, spec: MethodSpec, supervoxels: int) -> int:
    """Return the passes over each window that one class's attribution needs when every window is run for it alone.

    A gradient is one pass forward and one backward; a coalition is one forward.
    """
    return sum(plan.method(spec).passes(supervoxels))


def work_of_method(plan: Plan, spec: MethodSpec, labels: int) -> int:
    """Return the units of progress of one method on one case, foreseen from the model's number of classes."""
    supervoxels = labels if spec.supervoxels == "semantic" else plan.supervoxel_count
    return passes_of_one(plan, spec, supervoxels) * attributions_of_one(plan)


def work_of(plan: Plan, labels: int) -> int:
    """Return the units of progress of one case: passes over a window, for one class."""
    return plan.subsets + sum(work_of_method(plan, spec, labels) for spec in plan.specs)


def attributions_of_one(plan: Plan) -> int:
    """Return how often a method runs on a case: the scan, its noisy copies, and with random weights."""
    return 1 + plan.copies + int(plan.randomised)


def naive_passes(plan: Plan, spec: MethodSpec, windows: int, classes: int, supervoxels: int) -> int:
    """Return the passes of the per-class, per-method procedure for one method on one case.

    Each class by itself runs every window: for its attributions, and for faithfulness the scan and each subset anew.
    """
    one = passes_of_one(plan, spec, supervoxels) * attributions_of_one(plan) + plan.subsets + 1
    return classes * windows * one


class Share(Progress):
    """A part of a longer stage: whatever stages the work inside reports, the outer count moves on by ``weight``.

    ``detail`` says what is at work; ``None`` lets the work inside say it.
    """

    def __init__(self, outer: Progress, weight: int, detail: str | None) -> None:
        super().__init__()
        self._outer, self._weight, self._words = outer, weight, detail
        self._given = 0

    def stage(self, name: str, total: int, detail: str = "", before: int = 0) -> None:
        """Begin the work inside."""
        super().stage(name, total, detail, before)
        self._outer.advance(0, self._words)

    def advance(self, units: int = 1, detail: str | None = None) -> None:
        """Move the outer count on in proportion."""
        super().advance(units, detail)
        # The work inside may learn that it is longer; the outer count never goes back.
        target = max(int(self._weight * min(self._done / max(self._total, 1), 1.0)), self._given)
        self._outer.advance(target - self._given, detail if self._words is None else self._words)
        self._given = target

    def message(self, text: str) -> None:
        """Hand a sentence on."""
        self._outer.message(text)

    def finish(self) -> None:
        """Count all of it."""
        self._outer.advance(self._weight - self._given, self._words)
        self._given = self._weight
