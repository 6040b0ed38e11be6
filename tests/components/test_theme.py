"""What must hold of the look: readable in both modes, and nothing from elsewhere."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from components.theme import ASSETS, build_theme

STYLE = (ASSETS / "style.css").read_text(encoding="utf-8")
THEME = build_theme()

READ = [
    ("body_text_color", "body_background_fill"),
    ("body_text_color", "background_fill_primary"),
    ("body_text_color_subdued", "body_background_fill"),
    ("body_text_color_subdued", "background_fill_primary"),
    ("body_text_color_subdued", "background_fill_secondary"),
    ("link_text_color", "background_fill_primary"),
    ("button_primary_text_color", "button_primary_background_fill"),
    ("button_primary_text_color", "button_primary_background_fill_hover"),
    ("button_secondary_text_color", "button_secondary_background_fill"),
    ("button_cancel_text_color", "button_cancel_background_fill"),
    ("input_placeholder_color", "input_background_fill"),
]


@pytest.mark.parametrize("mode", ["", "_dark"], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "paper"), READ, ids=lambda name: str(name))
def test_text_can_be_read(ink: str, paper: str, mode: str):
    assert contrast(_token(ink + mode), _token(paper + mode)) >= 4.5


@pytest.mark.parametrize("mode", ["root", "dark"])
@pytest.mark.parametrize("tone", ["good", "caution", "bad", "l1", "l2", "l3"])
def test_chips_and_notices_can_be_read(tone: str, mode: str):
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", re.search(rf"[:.]{mode} {{(.*?)}}", STYLE, re.S)[1]))  # type: ignore[index]
    assert contrast(colours[tone], colours[f"{tone}-soft"]) >= 4.5


@pytest.mark.parametrize("mode", ["", "_dark"], ids=["light", "dark"])
def test_the_focus_ring_stands_out(mode: str):
    ring = _token("border_color_accent" + mode)
    assert contrast(ring, _token("body_background_fill" + mode)) >= 3
    assert contrast(ring, _token("background_fill_primary" + mode)) >= 3


def test_nothing_is_fetched_from_elsewhere():
    assert "http" not in STYLE.replace("http://www.w3.org", "")
    assert "@import" not in STYLE
    assert "http" not in (ASSETS / "head.html").read_text(encoding="utf-8")
    assert THEME._stylesheets == []


def test_the_style_does_not_rest_on_class_names_that_change_with_every_build():
    assert "svelte-" not in STYLE


def contrast(one: str, other: str) -> float:
    """WCAG's contrast of two colours, 1 to 21."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    colour = {"white": "#ffffff"}.get(colour, colour)
    channels = [int(colour[a:b], 16) / 255 for a, b in pairwise((1, 3, 5, 7))]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _token(name: str) -> str:
    return str(THEME._get_computed_value(name))
