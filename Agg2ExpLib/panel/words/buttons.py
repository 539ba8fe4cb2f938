"""What every button says and whether it can be pressed, from the facts alone. No Qt: a table that can be read and tested."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from slicer.i18n import tr as _


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
        What is running: empty, ``preparing``, ``explain``, ``estimate``, ``whatif``, ``needs``, ``instances``, ``environment``,
        ``figures``, ``score``, ``compare``, ``report``, ``fit``, ``model``.
    cancelling : bool
        Whether it was asked to stop.
    shown : bool
        Whether an explanation is shown.
    structure : str
        Readable name of the structure whose explanation is shown.
    scan : bool
        Whether the scan that was explained is still in the scene.
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
    ticked : bool
        Whether structures are ticked.
    refinable : str
        Why what is shown cannot be refined; empty when it can.
    refine_time : str
        How long that takes, in words; empty when it is not known.
    """

    volume: str = ""
    problem: str = ""
    job: str = ""
    cancelling: bool = False
    shown: bool = False
    structure: str = ""
    scan: bool = True
    structures: int = 0
    region: str = ""
    computed_here: bool = True
    figures: bool = True
    profile: str = ""
    batch: bool = False
    ticked: bool = True
    refinable: str = ""
    refine_time: str = ""


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
    "preparing": _("The scan is being handed over"),
    "explain": _("An explanation is being computed"),
    "estimate": _("The cost is being estimated"),
    "whatif": _("A what-if is being computed"),
    "needs": _("It is being found out what a structure needs"),
    "instances": _("Each instance of a structure is being explained"),
    "environment": _("The environment is being checked"),
    "figures": _("The figures are being drawn"),
    "export": _("The explanation is being exported"),
    "compare": _("Methods are being compared"),
    "model": _("A model is being loaded for the first time"),
    "score": _("The explanation is being compared with the reference"),
    "report": _("The report of the cohort is being made"),
    "fit": _("A reference profile is being fitted"),
}
_BATCH = _("A batch of many patients is running; pause it under Cohort first.")
_NOTHING_SHOWN = _("There is no explanation yet: choose a CT and press Apply, or open one.")

_QUICK_FIRST = _("Press Apply first: a quick look, which Refine makes steadier.")
_GONE = _("The Explanation folder is no longer where it was; press Apply to compute it again.")


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
    busy = busy_words(facts.job)
    network = busy or (_BATCH if facts.batch else "")
    shown = "" if facts.shown else _NOTHING_SHOWN
    looks = {
        "apply": _apply(facts),
        "refine": Look(
            _("Refine ({time})").format(time=facts.refine_time) if facts.refine_time else _("Refine"),
            _("SmoothGrad on the structures shown and on all that are ticked; what is there stays."),
            network or _inputs(facts) or (_QUICK_FIRST if not facts.shown else facts.refinable),
        ),
        "estimate": Look(
            _("Estimate time and memory"),
            _("Times one pass of the network on this device and counts how many are needed."),
            network or _inputs(facts),
        ),
        "compare methods": Look(
            _("Compare methods on this CT"),
            _(
                "Measures faithfulness, sensitivity and complexity of three methods with few samples, on the ticked structures."
            ),
            network or _inputs(facts) or ("" if facts.ticked else _("Tick the structures to compare methods on.")),
        ),
        "environment": Look(
            _("Check environment"),
            _("Lists packages and devices of the computing Python, for a report of a problem."),
            busy,
        ),
        "open": Look(_("Open …"), _("Shows an Explanation folder that was computed before."), busy),
        "whatif": _whatif(facts, network),
        "needs": _asked(
            facts,
            network,
            _("What does it need?"),
            _("Finds the least margin around the structure at which the model still finds it, in 6 to 8 predictions."),
        ),
        "instances": _asked(
            facts,
            network,
            _("Explain each instance"),
            _(
                "Explains each separate piece of the structure, such as each lesion, and marks those that are unlike the others."
            ),
        ),
        "open profile": Look(
            _("Open"), _("Opens a reference profile (.npz) and compares the shown explanation with it."), busy
        ),
        "compare": _compare(facts, busy),
        "export": Look(_("Export"), _("Saves the table, the figures or a whole report."), shown),
        "strongest": _of_structure(
            facts, _("Go to strongest voxel"), _("Moves the slices to where the attribution is strongest.")
        ),
        "bars": _of_structure(
            facts,
            _("Bars"),
            _("Bar chart of the regions that this structure relied on most. Pressed again, the views are as before."),
        ),
        "graph3d": _of_structure(
            facts, _("Graph in 3D"), _("Arrows in the 3D view from the regions relied on to the structure.")
        ),
        "heat map": _figure(facts, _("Heat map"), _("All structures against all regions in one picture.")),
        "graph": _figure(facts, _("Graph"), _("The three strongest sources of every structure as a graph.")),
        "overlay": _of_structure(facts, _("Overlay"), _("Shows the attribution over the CT.")),
    }
    for name, text, tip in (
        ("previous", _("‹"), _("Shows the structure before this one.")),
        ("next", _("›"), _("Shows the structure after this one.")),
    ):
        one = "" if facts.structures > 1 else _("Only one structure was explained.")
        looks[name] = Look(text, tip, shown or one)
    return PanelState(looks)


def busy_words(job: str) -> str:
    """Return what is at work, a kind of :class:`Facts`, and what to do about it; empty when nothing is."""
    return _("{job}; wait for it or cancel it.").format(job=_JOBS.get(job, job)) if job else ""


def _inputs(facts: Facts) -> str:
    return facts.problem if facts.volume else _("Load a CT and choose it under Inputs first.")


def _apply(facts: Facts) -> Look:
    if facts.cancelling:
        return Look(
            _("Cancelling …"), "", _("The work is being stopped and cleaned up; this takes a few seconds at most.")
        )
    if facts.job:
        return Look(
            _("Cancel"),
            _("{job}. Stops it; nothing incomplete is left behind.").format(job=_JOBS.get(facts.job, facts.job)),
        )
    return Look(
        _("Apply"),
        _("Segments {scan} with the model and explains each chosen structure, in a process of its own.").format(
            scan=facts.volume
        ),
        (_BATCH if facts.batch else "") or _inputs(facts),
    )


def _whatif(facts: Facts, busy: str) -> Look:
    reason = busy
    if not facts.shown:
        reason = _NOTHING_SHOWN
    elif not facts.computed_here:
        reason = _GONE
    elif not facts.region and not reason:
        reason = _("Choose a region that is to be replaced.")
    return Look(
        _("Predict again"),
        _("Replaces {region} in the scan and segments it again: what depended on it changes.").format(
            region=facts.region
        ),
        reason,
    )


def _asked(facts: Facts, busy: str, text: str, tip: str) -> Look:
    """Return the look of what the network is asked about the structure."""
    look = _of_structure(facts, text, tip)
    return replace(look, reason=look.reason or busy)


def _compare(facts: Facts, busy: str) -> Look:
    reason = busy
    if not facts.shown:
        reason = _NOTHING_SHOWN
    elif not facts.computed_here:
        reason = _GONE
    elif not facts.profile:
        reason = _("Open a reference profile first.")
    return Look(
        _("Compare with the reference"),
        _("Says of each structure whether its explanation is usual, and why not."),
        reason,
    )


def _of_structure(facts: Facts, text: str, tip: str) -> Look:
    reason = ""
    if not facts.shown:
        reason = _NOTHING_SHOWN
    elif not facts.structure:
        reason = _("No structure was explained: none of those asked for is in the segmentation.")
    elif not facts.computed_here:
        reason = _GONE
    elif not facts.scan:
        reason = _("The scan that was explained is no longer in the scene; open the explanation again.")
    return Look(text, tip, reason)


def _figure(facts: Facts, text: str, tip: str) -> Look:
    look = _of_structure(facts, text, tip)
    if look.enabled and not facts.figures:
        return Look(text, tip, _("Figures need matplotlib: press Check environment to see what is missing."))
    return look
