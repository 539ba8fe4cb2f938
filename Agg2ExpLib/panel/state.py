"""What every button says and whether it can be pressed, from the facts alone. No Qt: a table that can be read and tested."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Facts:
    """What is so at this moment.

    Attributes
    ----------
    volume : str
        Name of the chosen CT; empty when there is none.
    problem : str
        Why model, structures or settings cannot be used; empty when they can.
    job : str
        What is running: empty, ``preparing``, ``explain``, ``estimate``, ``whatif``, ``environment``, ``figures``, ``score``,
        ``compare``, ``report``, ``fit``.
    cancelling : bool
        Whether it was asked to stop.
    shown : bool
        Whether an explanation is shown.
    structure : str
        Readable name of the structure whose explanation is shown.
    structures : int
        How many explained structures there are to step through.
    region : str
        The region chosen for the what-if; empty when there is none.
    computed_here : bool
        Whether the shown explanation's folder is still there, which the what-if and some exports need.
    figures : bool
        Whether this version draws heat map and graph.
    profile : str
        Path of the reference profile; empty when there is none.
    batch : bool
        Whether a batch runs, which takes all of the machine.
    """

    volume: str = ""
    problem: str = ""
    job: str = ""
    cancelling: bool = False
    shown: bool = False
    structure: str = ""
    structures: int = 0
    region: str = ""
    computed_here: bool = True
    figures: bool = True
    profile: str = ""
    batch: bool = False


@dataclass(frozen=True)
class Look:
    """One button at one moment: enabled when ``reason`` is empty."""

    text: str
    tip: str
    reason: str = ""

    @property
    def enabled(self) -> bool:
        """Whether it can be pressed."""
        return not self.reason

    @property
    def tooltip(self) -> str:
        """What it does, or why it cannot be pressed."""
        return self.reason or self.tip


@dataclass(frozen=True)
class PanelState:
    """The looks of all buttons, by name."""

    looks: dict[str, Look] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Look:
        """Return the look of one button."""
        return self.looks[name]


_JOBS = {
    "preparing": "The scan is being handed over",
    "explain": "An explanation is being computed",
    "estimate": "The cost is being estimated",
    "whatif": "A what-if is being computed",
    "environment": "The environment is being checked",
    "figures": "The figures are being drawn",
    "compare": "Methods are being compared",
    "score": "The explanation is being compared with the reference",
    "report": "The report of the cohort is being made",
    "fit": "A reference profile is being fitted",
}
_BATCH = "A batch of many patients is running; pause it under Cohort first."
_NOTHING_SHOWN = "There is no explanation yet: choose a CT and press Apply, or open one."

_GONE = "The Explanation folder is no longer where it was; press Apply to compute it again."


def panel_state(facts: Facts) -> PanelState:
    """Decide every button.

    Examples
    --------
    >>> panel_state(Facts())["apply"].reason
    'Load a CT and choose it under Inputs first.'
    >>> panel_state(Facts(volume="ct"))["apply"].enabled
    True
    >>> panel_state(Facts(volume="ct", job="explain"))["apply"].text
    'Cancel'
    """
    busy = busy_words(facts)
    network = busy or (_BATCH if facts.batch else "")
    shown = "" if facts.shown else _NOTHING_SHOWN
    looks = {
        "apply": _apply(facts),
        "estimate": Look(
            "Estimate time and memory",
            "Times one pass of the network on this device and counts how many are needed.",
            network or _inputs(facts),
        ),
        "compare methods": Look(
            "Compare methods on this CT",
            "Measures faithfulness, sensitivity and complexity of three methods with few samples, on the ticked structures.",
            network or _inputs(facts),
        ),
        "environment": Look(
            "Check environment", "Lists packages and devices of the computing Python, for a report of a problem.", busy
        ),
        "open": Look("Open explanation", "Shows an Explanation folder that was computed before.", busy),
        "whatif": _whatif(facts, network),
        "open profile": Look(
            "Open", "Opens a reference profile (.npz) and compares the shown explanation with it.", busy
        ),
        "compare": _compare(facts, busy),
        "export": Look("Export", "Saves the table, the figures or a whole report.", shown),
        "strongest": _of_structure(
            facts, "Go to strongest voxel", "Moves the slices to where the attribution is strongest."
        ),
        "bars": _of_structure(facts, "Bars", "Bar chart of the regions that this structure relied on most."),
        "graph3d": _of_structure(
            facts, "Graph in 3D", "Arrows in the 3D view from the regions relied on to the structure."
        ),
        "heat map": _figure(facts, "Heat map", "All structures against all regions in one picture."),
        "graph": _figure(facts, "Graph", "The three strongest sources of every structure as a graph."),
        "overlay": _of_structure(facts, "Overlay", "Shows the attribution over the CT."),
    }
    for name, text, tip in (
        ("previous", "‹", "Shows the structure before this one."),
        ("next", "›", "Shows the structure after this one."),
    ):
        one = "" if facts.structures > 1 else "Only one structure was explained."
        looks[name] = Look(text, tip, shown or one)
    return PanelState(looks)


def busy_words(facts: Facts) -> str:
    """Return what is at work and what to do about it; empty when nothing is."""
    return f"{_JOBS.get(facts.job, facts.job)}; wait for it or cancel it." if facts.job else ""


def _inputs(facts: Facts) -> str:
    return facts.problem if facts.volume else "Load a CT and choose it under Inputs first."


def _apply(facts: Facts) -> Look:
    if facts.cancelling:
        return Look("Cancelling …", "", "The work is being stopped and cleaned up; this takes a few seconds at most.")
    if facts.job:
        return Look("Cancel", f"{_JOBS.get(facts.job, facts.job)}. Stops it; nothing incomplete is left behind.")
    return Look(
        "Apply",
        f"Segments {facts.volume} with the model and explains each chosen structure, in a process of its own.",
        (_BATCH if facts.batch else "") or _inputs(facts),
    )


def _whatif(facts: Facts, busy: str) -> Look:
    reason = busy
    if not facts.shown:
        reason = _NOTHING_SHOWN
    elif not facts.computed_here:
        reason = _GONE
    elif not facts.region and not reason:
        reason = "Choose a region that is to be replaced."
    return Look(
        "Predict again",
        f"Replaces {facts.region} in the scan and segments it again: what depended on it changes.",
        reason,
    )


def _compare(facts: Facts, busy: str) -> Look:
    reason = busy
    if not facts.shown:
        reason = _NOTHING_SHOWN
    elif not facts.computed_here:
        reason = _GONE
    elif not facts.profile:
        reason = "Open a reference profile first."
    return Look(
        "Compare with the reference", "Says of each structure whether its explanation is usual, and why not.", reason
    )


def _of_structure(facts: Facts, text: str, tip: str) -> Look:
    reason = ""
    if not facts.shown:
        reason = _NOTHING_SHOWN
    elif not facts.structure:
        reason = "No structure was explained: none of those asked for is in the segmentation."
    elif not facts.computed_here:
        reason = _GONE
    return Look(text, tip, reason)


def _figure(facts: Facts, text: str, tip: str) -> Look:
    look = _of_structure(facts, text, tip)
    if look.enabled and not facts.figures:
        return Look(text, tip, "Figures need matplotlib: press Check environment to see what is missing.")
    return look
