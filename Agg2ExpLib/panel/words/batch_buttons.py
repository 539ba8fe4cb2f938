"""What the buttons of the cohort section say and whether they can be pressed, from the facts alone. No Qt."""

from __future__ import annotations

from dataclasses import dataclass

from slicer.i18n import tr as _

from Agg2ExpLib.cohort.judge.profile import FEWEST
from Agg2ExpLib.panel.words.buttons import Look, PanelState


@dataclass(frozen=True)
class BatchFacts:
    """What is so at this moment.

    Attributes
    ----------
    problem : str
        Why the batch cannot be begun; empty when it can.
    busy : str
        What else is at work, in words that say what to do; empty when nothing is.
    running : bool
        Whether the batch is at work.
    stopping : str
        ``pause`` or ``cancel`` when it was asked to stop; else empty.
    paused : bool
        Whether it was begun here and rests.
    finished, failed, waiting : int
        Cases of the output folder.
    case : str
        State of the chosen case (``done`` ...); empty when none is chosen.
    """

    problem: str = ""
    busy: str = ""
    running: bool = False
    stopping: str = ""
    paused: bool = False
    finished: int = 0
    failed: int = 0
    waiting: int = 0
    case: str = ""


_RUNNING = _("The batch is running; pause it first.")


def batch_state(facts: BatchFacts) -> PanelState:
    """Decide every button.

    Examples
    --------
    >>> batch_state(BatchFacts())["batch run"].text, batch_state(BatchFacts(finished=2, waiting=1))["batch run"].text
    ('Start', 'Resume')
    >>> batch_state(BatchFacts(running=True))["batch run"].text
    'Pause'
    """
    still = _RUNNING if facts.running else ""
    none = "" if facts.finished else _("No case is finished yet.")
    few = (
        ""
        if facts.finished >= FEWEST
        else _("A reference needs at least {fewest} finished cases, better 10 and more.").format(fewest=FEWEST)
    )
    chosen = "" if facts.case else _("Choose a case in the list first.")
    return PanelState(
        {
            "batch run": _run(facts),
            "batch cancel": _cancel(facts),
            "retry failed": Look(
                _("Retry failed"),
                _("Tries the failed cases again, after you have mended what their reasons name."),
                still or facts.busy or facts.problem or ("" if facts.failed else _("No case has failed.")),
            ),
            "cohort report": Look(
                _("Open the report"),
                _("Makes the report of all finished cases (HTML, one file in the output folder) and opens it."),
                still or facts.busy or none,
            ),
            "cohort profile": Look(
                _("Use as reference"),
                _("Fits a reference profile to the finished cases and opens it under 'Is this patient unusual?'."),
                still or facts.busy or few,
            ),
            "open case": Look(
                _("Open case"),
                _("Shows the chosen case: its explanation when that was kept, else its CT, chosen under Inputs."),
                chosen or facts.busy,
            ),
            "choose": Look(
                "", "", still or (_("The batch is paused; cancel it to choose others.") if facts.paused else "")
            ),
        }
    )


def _run(facts: BatchFacts) -> Look:
    if facts.stopping:
        text = _("Pausing …") if facts.stopping == "pause" else _("Cancelling …")
        return Look(text, "", _("The process is being stopped; this takes a few seconds at most."))
    if facts.running:
        return Look(_("Pause"), _("Stops after what is finished; the case at work begins anew when you press Resume."))
    reason = facts.busy or facts.problem
    if facts.waiting:
        done = facts.finished + facts.failed
        return Look(
            _("Resume"),
            _("Goes on: {done} of {waiting} cases were looked at before.").format(
                done=done, waiting=done + facts.waiting
            ),
            reason,
        )
    if facts.finished or facts.failed:
        return Look(_("Run again"), _("Every case was looked at; explains those that have been added since."), reason)
    return Look(_("Start"), _("Explains every case with model, structures and method as chosen under Explain."), reason)


def _cancel(facts: BatchFacts) -> Look:
    reason = ""
    if facts.stopping:
        reason = _("The process is being stopped; this takes a few seconds at most.")
    elif not (facts.running or facts.paused):
        reason = _("No batch is running or paused.")
    return Look(
        _("Cancel"),
        _("Stops and forgets the batch. Finished cases stay in the output folder, which can be chosen again."),
        reason,
    )
