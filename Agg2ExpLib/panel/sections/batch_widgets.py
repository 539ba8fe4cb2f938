"""The widgets of the cohort section; what they do is in batch_section.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BatchWidgets:
    """Everything that the section wires."""

    frame: Any
    source: Any
    out: Any
    keep: Any
    workers: Any
    settings: Any
    reason: Any
    progress: Any
    status: Any
    table: Any
    more: Any
    buttons: dict[str, Any]

    @classmethod
    def of(cls, ui: Any) -> BatchWidgets:
        """Find them among the widgets of the .ui."""
        return cls(
            frame=ui.cohortCollapsibleButton,
            source=ui.batchCasesLabel,
            out=ui.batchOutputLabel,
            keep=ui.keepExplanationsCheckBox,
            workers=ui.batchProcessesSpinBox,
            settings=ui.batchSettingsLabel,
            reason=ui.batchReasonLabel,
            progress=ui.batchProgressBar,
            status=ui.batchStatusLabel,
            table=ui.batchTable,
            more=ui.batchMoreLabel,
            buttons={
                "cases folder": ui.casesFolderButton,
                "cases table": ui.casesTableButton,
                "batch output": ui.batchOutputButton,
                "batch run": ui.batchRunButton,
                "batch cancel": ui.batchCancelButton,
                "retry failed": ui.retryFailedButton,
                "open case": ui.openCaseButton,
                "cohort report": ui.cohortReportButton,
                "cohort profile": ui.cohortProfileButton,
            },
        )
