"""A page of HTML that needs nothing beside it: headings, sentences, tables and pictures, everything escaped."""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from Agg2ExpLib.figures.writing import rendered

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Pixels per inch of pictures in files, and how large figures are on the page.
_DPI, _SCALE = 110, 0.95
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.7em; margin-bottom: 0.2em; } h2 { margin-top: 2em; border-bottom: 1px solid #ccd5de; padding-bottom: 0.2em; }
table { border-collapse: collapse; margin: 0.8em 0; font-size: 0.92em; } th { text-align: left; background: #eef2f6; }
th, td { padding: 0.25em 0.7em; border-bottom: 1px solid #e2e8ee; vertical-align: top; }
.number { text-align: right; } td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
img { max-width: 100%; height: auto; } details { margin: 0.5em 0; } summary { cursor: pointer; color: #1f4e79; }
p.note { color: #5a6875; } p.warning { background: #fff4e0; border-left: 4px solid #d98e04; padding: 0.5em 0.8em; }
nav a { margin-right: 1em; }
p.lead { font-size: 1.08em; margin: 0.6em 0; }
@media (prefers-color-scheme: dark) {
  body { background: #14191f; color: #dde4ea; } th { background: #232c35; } th, td { border-color: #33404c; }
  h2 { border-color: #33404c; } a, summary { color: #8fc1ee; } p.note { color: #9fb0be; } p.warning { background: #3a2c12; }
  ul.summary { background: #1d2731 !important; }
  img.chart { filter: invert(0.92) hue-rotate(180deg); }
}
@media screen and (max-width: 800px) { table { display: block; overflow-x: auto; } td, th { min-width: 4.5em; } }
@media print {
  body { max-width: none; margin: 0; font-size: 11px; } nav { display: none; } h2 { break-after: avoid; }
  img, tr { break-inside: avoid; } .first { break-after: page; }
  details::details-content { content-visibility: visible; height: auto; }
}
ul.summary { background: #f3f7fb; border-left: 4px solid #1f4e79; padding: 0.7em 1em 0.7em 2em; margin: 1em 0; }
"""

# A number, with its unit, interval or exponent; an empty cell and a dash stand for none.
_NUMBER = re.compile(r"(?:-?\d(?:[\d.,%()\s±+\-–]|e[-+]|to)*|[–-]?)")


class Page:
    """Collects a page.

    Parameters
    ----------
    title : str
        Its heading.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._body: list[str] = []
        self._sections: list[str] = []
        self._summary: list[str] = []
        self._lead = ""
        self._front: list[str] = []
        #: Name of a file -> the picture as PNG.
        self.pictures: dict[str, bytes] = {}

    def lead(self, sentence: str) -> None:
        """Set the paragraph under the heading: what the page is, for whoever has never seen one."""
        self._lead = f'<p class="lead">{html.escape(sentence)}</p>\n'

    def summary(self, sentence: str, place: int | None = None) -> None:
        """Add a sentence to the box at the top, for whoever reads no further: at the end, or at a place from 0 on."""
        self._summary.insert(len(self._summary) if place is None else place, f"<li>{html.escape(sentence)}</li>")

    def section(self, heading: str) -> None:
        """Begin a section; it is listed at the top."""
        self._sections.append(heading)
        self._body.append(f'<h2 id="s{len(self._sections)}">{html.escape(heading)}</h2>')

    def text(self, sentence: str, kind: str = "") -> None:
        """Add a paragraph; ``kind`` is empty, ``note`` or ``warning``."""
        self._body.append(
            f'<p class="{kind}">{html.escape(sentence)}</p>' if kind else f"<p>{html.escape(sentence)}</p>"
        )

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], most: int = 200) -> None:
        """Add a table; columns of nothing but numbers stand to the right."""
        kinds = [
            all(_NUMBER.fullmatch(row[column]) for row in rows)
            and any(row[column].lstrip("-")[:1].isdigit() for row in rows)
            for column in range(len(header))
        ]
        head = "".join(map(_cell, header, kinds, ["th"] * len(header)))
        body = "".join("<tr>" + "".join(map(_cell, row, kinds)) + "</tr>\n" for row in rows[:most])
        self._body.append(f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>")
        if len(rows) > most:
            self.text(f"The first {most} of {len(rows)} rows.", "note")

    def picture(
        self, figure: Figure | None, caption: str, name: str, *, photo: bool = False, first: bool = False
    ) -> None:
        """Add a figure as SVG, and keep it as PNG in :attr:`pictures`; nothing when there is none.

        Parameters
        ----------
        figure : matplotlib.figure.Figure, optional
            What to show.
        caption : str
            Said to whoever cannot see it.
        name : str
            Of its file.
        photo : bool
            It shows scans: its colours stay where the page is dark.
        first : bool
            Show it on the first page, under the summary.
        """
        if figure is None:
            return
        data = base64.b64encode(rendered(figure, "svg", _DPI)).decode("ascii")
        self.pictures[f"{name}.png"] = rendered(figure, "png", _DPI)
        # As wide as the figure is, so that letters have one size all over the page.
        width = round(96 * float(figure.get_size_inches()[0]) * _SCALE)
        look = "photo" if photo else "chart"
        text = f'<p><img class="{look}" width="{width}" alt="{html.escape(caption)}" src="data:image/svg+xml;base64,{data}"></p>'
        (self._front if first else self._body).append(text)

    def fold(self, summary: str) -> None:
        """Begin a part that is closed at first; end it with :meth:`unfold`."""
        self._body.append(f"<details><summary>{html.escape(summary)}</summary>")

    def unfold(self) -> None:
        """End the closed part."""
        self._body.append("</details>")

    def render(self) -> str:
        """Return the whole document."""
        links = "".join(
            f'<a href="#s{number}">{html.escape(heading)}</a>' for number, heading in enumerate(self._sections, start=1)
        )
        box = f'<ul class="summary">{"".join(self._summary)}</ul>\n' if self._summary else ""
        front = "\n".join(self._front)
        # No script, nothing from elsewhere: the page cannot do anything but be read.
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
            f"<title>{html.escape(self._title)}</title><style>{_STYLE}</style></head>\n"
            f'<body><div class="first"><h1>{html.escape(self._title)}</h1>\n{self._lead}{box}{front}<nav>{links}</nav></div>\n'
            + "\n".join(self._body)
            + "\n</body></html>\n"
        )


def _cell(text: str, is_number: bool, tag: str = "td") -> str:
    kind = ' class="number"' if is_number else ""
    # A percent sign is never parted from its number, nor the ends of a range from each other.
    whole = re.sub(r"(?<=\d)-(?=\d)", "\u2060-\u2060", html.escape(text).replace(" %", chr(160) + "%"))
    # What a test calls best is bold in a table of methods.
    whole = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", whole)
    return f"<{tag}{kind}>{whole}</{tag}>"


def p_value(value: float) -> str:
    """Return a p or q as people write it.

    Examples
    --------
    >>> p_value(0.0312), p_value(0.00001), p_value(float("nan"))
    ('0.031', '1.0e-05', '–')
    """
    if not math.isfinite(value):
        return "–"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def number(value: float, digits: int = 3) -> str:
    """Return a number with three decimals, or as many as are asked for; a dash when there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def interval(low: float, high: float, digits: int = 3) -> str:
    """Return an interval in brackets; nothing when there is none.

    Examples
    --------
    >>> interval(0.1234, 0.5, 2), interval(float("nan"), 1.0)
    ('(0.12 to 0.50)', '')
    """
    return f"({low:.{digits}f} to {high:.{digits}f})" if math.isfinite(low) and math.isfinite(high) else ""
