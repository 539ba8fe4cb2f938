"""How every figure looks: light and dark, fonts, headings, names and colours of structures, room for text."""

from __future__ import annotations

import contextlib
import functools
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from Agg2ExpLib.anatomy import RGB, SYSTEMS, structure
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.figures.fonts import families

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

#: Beyond this many names a figure changes to small type, and to a layout for many.
FEW = 24
MARGIN = 0.25  # inches
_LONGEST_NAME = 34
# matplotlib's ids in SVG files are hashed with this: the same figure gives the same bytes.
_SALT = "agg2exp"


@dataclass(frozen=True)
class Theme:
    """Colours that do not stand for a structure or a value."""

    name: str
    paper: str
    ink: str
    soft: str
    faint: str
    absent: str
    # Light to dark on light paper, dark to light on dark paper: what is strong stands out on both. Both are
    # ColorBrewer's, safe for colour-blind readers; the diverging one is blue - orange.
    sequential: str
    diverging: tuple[str, ...]


_THEMES = {
    "light": Theme(
        "light",
        "#ffffff",
        "#1c1e21",
        "#555b63",
        "#8b9097",
        "#c9ccd1",
        "YlGnBu",
        ("#08306b", "#4292c6", "#c6dbef", "#fbfbf8", "#fdd0a2", "#ec7014", "#7f2704"),
    ),
    "dark": Theme(
        "dark",
        "#15171b",
        "#eceef1",
        "#b3b9c2",
        "#8b9097",
        "#4a4e55",
        "YlGnBu_r",
        ("#c6e2ff", "#5aa3e0", "#22507d", "#1e2025", "#7d4310", "#f08c2e", "#ffe0b8"),
    ),
}
BACKGROUNDS = tuple(_THEMES)


@contextlib.contextmanager
def drawing(background: str) -> Iterator[Theme]:
    """Set what matplotlib draws with, whatever the user's own settings, and put those back afterwards.

    Raises
    ------
    InputError
        A background other than light or dark.
    """
    if background not in _THEMES:
        raise InputError(f"unknown background {background!r}: use {' or '.join(BACKGROUNDS)}")
    import matplotlib

    theme = _THEMES[background]
    # The backend belongs to whoever opened a window; figures here have a canvas of their own.
    settings: Any = {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")}
    settings.update(_settings(theme))
    with matplotlib.rc_context(settings), _quiet_fonts():
        yield theme


@contextlib.contextmanager
def _quiet_fonts() -> Iterator[None]:
    """Keep off the screen that a font lacks a weight, and for each letter what undrawable() tells once."""
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            yield
    finally:
        logger.setLevel(level)


def _settings(theme: Theme) -> dict[str, Any]:
    ink = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
    return {
        **dict.fromkeys(ink, theme.ink),
        "font.family": families(),
        "font.size": 9.0,
        # A dollar sign in the name of a region is a dollar sign.
        "text.parse_math": False,
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "axes.facecolor": theme.paper,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        # Grey shows on black findings as well as on paper of either kind.
        "hatch.color": theme.faint,
        "hatch.linewidth": 0.8,
        "legend.frameon": False,
        "svg.hashsalt": _SALT,
        # Letters as outlines: a figure looks the same where the font is not installed.
        "svg.fonttype": "path",
    }


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches, on a canvas without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes at a place in inches from the lower left corner."""
    import matplotlib

    across, up = (float(side) for side in figure.get_size_inches())
    axes = figure.add_axes((left / across, bottom / up, width / across, height / up))
    # Ticks are made when the figure is drawn, which may be outside of drawing().
    ink = matplotlib.rcParams["xtick.color"]
    axes.tick_params(which="both", color=ink, labelcolor=ink)
    return axes


@functools.lru_cache(maxsize=4096)
def text_width(text: str, size: float) -> float:
    """Return the width in inches of a line of text of that size in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    if not text.strip():
        return 0.0
    # From the font's own metrics: within half a point of the extents of the outlines, which take seventeen times as long.
    font = FontProperties(family=families(), size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 72.0


def widest(texts: Iterable[str], size: float) -> float:
    """Return the width in inches of the widest of some lines."""
    return max((text_width(text, size) for text in texts), default=0.0)


def wrapped(text: str, width: float, size: float) -> list[str]:
    """Break a text into lines that are at most ``width`` inches wide."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


@dataclass(frozen=True)
class Heading:
    """A title and the sentences under it, broken to a width; asked for its height before the figure is made."""

    title: tuple[str, ...]
    lines: tuple[str, ...]

    TITLE_SIZE = 13.0
    LINE_SIZE = 9.0

    @classmethod
    def of(cls, title: str, sentences: Sequence[str], figure_width: float) -> Heading:
        """Break the text for a figure of that width in inches."""
        room = figure_width - 2 * MARGIN
        lines = [line for text in sentences if text for line in wrapped(text, room * 0.98, cls.LINE_SIZE)]
        return cls(tuple(wrapped(title, room * 0.9, cls.TITLE_SIZE)), tuple(lines))

    @property
    def height(self) -> float:
        """Inches from the top of the figure to where a picture may begin."""
        return MARGIN + 0.25 * len(self.title) + 0.17 * len(self.lines) + 0.12

    def draw(self, figure: Figure, theme: Theme) -> None:
        """Write it at the top left."""
        across, up = (float(side) for side in figure.get_size_inches())
        top = up - MARGIN
        for line in self.title:
            figure.text(MARGIN / across, top / up, line, size=self.TITLE_SIZE, weight="bold", va="top")
            top -= 0.25
        for line in self.lines:
            figure.text(MARGIN / across, top / up, line, size=self.LINE_SIZE, color=theme.soft, va="top")
            top -= 0.17


def readable(identifier: str) -> str:
    """Return the name for people, cut when it is very long.

    Examples
    --------
    >>> readable("autochthon_left")
    'deep back muscle left'
    """
    name = " ".join(structure(identifier).name.split()) or identifier
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def colour_of(identifier: str) -> tuple[float, float, float]:
    """Return a structure's colour, 0 to 1."""
    return _scaled(structure(identifier).colour)


def _scaled(colour: RGB) -> tuple[float, float, float]:
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def ink_on(colour: Any) -> str:
    """Return black or white, whichever reads better on a colour."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "#ffffff"


def systems_of(identifiers: Iterable[str]) -> list[str]:
    """Return the systems of some structures, in the order of :data:`~Agg2ExpLib.anatomy.SYSTEMS`."""
    there = {structure(identifier).system for identifier in identifiers}
    return [system for system in SYSTEMS if system in there]


def system_handles(identifiers: Iterable[str], theme: Theme) -> list[Any]:
    """Return what a legend of the structures' systems needs."""
    from matplotlib.patches import Patch

    return [
        Patch(facecolor=_scaled(SYSTEMS[system][1]), edgecolor=theme.ink, linewidth=0.5,
              label=SYSTEMS[system][0])
        for system in systems_of(identifiers)
    ]  # fmt: skip


def sequential_map(theme: Theme) -> Colormap:
    """Return the map of shares, with the theme's grey for what is absent."""
    import matplotlib

    chosen: Colormap = matplotlib.colormaps[theme.sequential].with_extremes(bad=theme.absent)
    return chosen


def diverging_map(theme: Theme) -> Colormap:
    """Return the map of ratios, with paper's own colour in the middle."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("agg2exp", list(theme.diverging)).with_extremes(bad=theme.absent)
