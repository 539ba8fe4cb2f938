"""The importance of one structure as lines for people: share, size of the bar, times for its size, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from slicer.i18n import tr as _

from Agg2ExpLib.anatomy import RGB, structure
from Agg2ExpLib.importance import ImportanceTable

#: Column -> (title on the surface, what it means, the field's term).
COLUMNS = {
    "region": (_("region"), _("Where in the scan: a structure of the model, or a region of yours.")),
    "share": (
        _("share"),
        _(
            "Share of all attribution that lies in the region: how much of what the model relied on is here "
            "(mass accuracy, I(E, R)). Large regions hold much because they are large."
        ),
    ),
    "size": (
        _("for its size"),
        _(
            "Share of the attribution over share of the volume: 1 is as much as any region of that size holds (enrichment)."
        ),
    ),
    "for": (
        _("for/against"),
        _(
            "Share of the positive attribution (it spoke for the structure) and of the negative one (against) in the region."
        ),
    ),
}


@dataclass(frozen=True)
class Row:
    """One region of one structure's explanation.

    Attributes
    ----------
    region, name : str
        Identifier and readable name.
    colour : RGB
        Of the structure or segment.
    share, enrichment, positive, negative : float
        Measures; NaN when the region has no voxel.
    voxels : int
        On the model's grid.
    live : bool
        Whether it is recomputed while somebody paints.
    """

    region: str
    name: str
    colour: RGB
    share: float
    enrichment: float
    positive: float
    negative: float
    voxels: int
    live: bool = False
    own: bool = False

    def texts(self) -> tuple[str, str, str, str]:
        """Return the words of the four columns."""
        sides = f"{percent(self.positive)} / {percent(self.negative)}".replace(" % /", " /")
        return self.name, percent(self.share), times(self.enrichment), sides

    def sentence(self, explained: str) -> str:
        """Say in one sentence what the numbers mean."""
        if not self.voxels:
            return _("{region} has no voxel in this scan, so nothing can be said about it.").format(region=self.name)
        if not math.isfinite(self.share):
            return _("{structure} is absent from the segmentation, so nothing was attributed.").format(
                structure=explained
            )
        # Whole sentences, because other languages have another order of words.
        if 0.95 <= self.enrichment <= 1.05:
            main = _(
                "{share} of what the model relied on for {structure} lies in {region}: "
                "as much as a region of that size would hold by chance."
            )
        elif self.enrichment >= 0.1:
            main = _(
                "{share} of what the model relied on for {structure} lies in {region}: "
                "{times} times what a region of that size would hold by chance."
            )
        else:
            main = _(
                "{share} of what the model relied on for {structure} lies in {region}: "
                "almost nothing of what a region of that size would hold by chance."
            )
        sentences = [
            main.format(
                share=percent(self.share), structure=explained, region=self.name, times=f"{self.enrichment:.1f}"
            )
        ]
        if math.isfinite(self.positive) and math.isfinite(self.negative):
            sides = _("It holds {positive} of what spoke for it and {negative} of what spoke against.")
            sentences.append(sides.format(positive=percent(self.positive), negative=percent(self.negative)))
        if self.live:
            sentences.append(_("It changes while you paint."))
        return " ".join(sentences)


def percent(value: float) -> str:
    """Return a share as people read it.

    Examples
    --------
    >>> percent(0.664), percent(0.031), percent(0.0004), percent(float("nan"))
    ('66 %', '3.1 %', '< 0.1 %', '–')
    """
    if not math.isfinite(value):
        return "–"
    hundred = 100.0 * value
    if hundred >= 9.95:
        return f"{hundred:.0f} %"
    if 0 < hundred < 0.1:
        return "< 0.1 %"
    return f"{hundred:.1f} %" if hundred else "0 %"


def times(value: float) -> str:
    """Return an enrichment as people read it.

    Examples
    --------
    >>> times(8.72), times(14.2), times(float("nan"))
    ('8.7 ×', '14 ×', '–')
    """
    if not math.isfinite(value):
        return "–"
    return f"{value:.0f} ×" if value >= 9.95 else f"{value:.1f} ×"


def rows_of(table: ImportanceTable, explained: str, colours: Mapping[str, RGB] | None = None) -> list[Row]:
    """Return every region of one structure's explanation, in the table's order."""
    if explained not in table.classes:
        return []
    index = table.classes.index(explained)
    given = colours or {}

    def value(measure: str, column: int) -> float:
        return float(table.matrix(measure)[index, column])

    return [
        Row(
            region=roi,
            name=structure(roi).name,
            colour=given.get(roi, structure(roi).colour),
            share=value("mass", column),
            enrichment=value("enrichment", column),
            positive=value("positive", column),
            negative=value("negative", column),
            voxels=int(value("voxels", column)),
            own=roi == explained,
        )
        for column, roi in enumerate(table.rois)
    ]


def with_live(rows: Sequence[Row], live: Sequence[Row]) -> list[Row]:
    """Return the rows with those of painted regions in place of their first versions, new ones at the end."""
    fresh = {row.region: row for row in live}
    kept = [replace(fresh.pop(row.region), own=row.own) if row.region in fresh else row for row in rows]
    return [*kept, *fresh.values()]


def sort_rows(rows: Sequence[Row], column: str, descending: bool) -> list[Row]:
    """Return rows ordered by a column of :data:`COLUMNS`; regions without a number come last either way."""
    if column == "region":
        return sorted(rows, key=lambda row: row.name.lower(), reverse=descending)
    field = {"share": "share", "size": "enrichment", "for": "positive"}[column]
    sign = -1.0 if descending else 1.0

    def key(row: Row) -> tuple[bool, float]:
        value = float(getattr(row, field))
        return not math.isfinite(value), sign * value if math.isfinite(value) else 0.0

    return sorted(rows, key=key)
