"""Fonts for names in any script: letters that DejaVu Sans lacks are drawn by other fonts of this machine."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable

FONT = "DejaVu Sans"
# What Windows, macOS and Linux bring for scripts that DejaVu Sans lacks; the first that has a letter draws it.
_OTHERS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Noto Sans JP",
    "Noto Sans KR", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "PingFang SC", "Hiragino Sans",
    "Apple SD Gothic Neo", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback",
    "Source Han Sans SC", "IPAGothic", "NanumGothic", "Nirmala UI", "Noto Sans Devanagari",
    "Noto Sans Bengali", "Noto Sans Tamil", "Kohinoor Devanagari", "Lohit Devanagari", "Leelawadee UI",
    "Noto Sans Thai", "Thonburi", "Loma", "Ebrima", "Noto Sans Ethiopic", "Noto Sans Arabic",
    "Noto Sans Hebrew", "Segoe UI", "Arial Unicode MS", "Unifont", "FreeSans",
)  # fmt: skip
_MOST_TOLD = 12


@functools.cache
def families() -> list[str]:
    """Return the fonts of every figure, in the order in which a letter is looked for in them."""
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return [FONT, *(name for name in _OTHERS if name in installed)]


def undrawable(texts: Iterable[str]) -> str:
    """Return one sentence about the letters of some texts that no font here has, or an empty string."""
    letters = {letter for text in texts for letter in text if not (letter.isascii() or letter.isspace())}
    lacking = sorted(letter for letter in letters if not any(ord(letter) in _letters_of(name) for name in families()))
    if not lacking:
        return ""
    # Of a letter such as CJK UNIFIED IDEOGRAPH-5FC3 the first word is its script.
    scripts = dict.fromkeys(unicodedata.name(letter, "unnamed").split()[0].capitalize() for letter in lacking)
    shown = "".join(lacking[:_MOST_TOLD]) + ("..." if len(lacking) > _MOST_TOLD else "")
    return (
        f"No font of this machine has the letters {shown} ({', '.join(scripts).replace('Cjk', 'CJK')}), so figures show boxes in "
        "their places; install one that has them, such as Noto Sans, and draw again."
    )


@functools.cache
def _letters_of(family: str) -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(family)).get_charmap())
