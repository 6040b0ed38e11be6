"""The look: tokens for light and dark, and the few colours that mean something. The rest is assets/style.css.

Blocks carry no border of their own: a label over a bordered input, grouped on cards, reads calmer than boxes in boxes.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.themes.utils.colors import Color
from gradio.themes.utils.sizes import Size

__all__ = ["ASSETS", "MEANING", "RUNGS", "build_theme"]

ASSETS = Path(__file__).parents[1] / "assets"

# One hue per rung of the ladder, for chips, charts and the mark and nowhere else. Mid-tones, so that a mark or a
# line in them is seen on both the light and the dark surface; text in these hues is in style.css, per mode.
RUNGS = {"L1": "#0284c7", "L2": "#0d9488", "L3": "#7c3aed"}
MEANING = {"good": "#15803d", "caution": "#b45309", "bad": "#b91c1c"}

_SLATE = Color(
    c50="#f8fafc",
    c100="#f1f5f9",
    c200="#e2e8f0",
    c300="#cbd5e1",
    c400="#94a3b8",
    c500="#64748b",
    c600="#475569",
    c700="#2b384d",
    c800="#1d2739",
    c900="#131c2c",
    c950="#0b121e",
    name="slate",
)
_TEAL = Color(
    c50="#f0fdfa",
    c100="#ccfbf1",
    c200="#99f6e4",
    c300="#5eead4",
    c400="#2dd4bf",
    c500="#14b8a6",
    c600="#0d9488",
    c700="#0f766e",
    c800="#115e59",
    c900="#134e4a",
    c950="#042f2e",
    name="teal",
)
# 13 secondary, 14 body, 16 card titles, 20 page titles; Gradio's own rules ask for these names.
_TEXT = Size(xxs="11px", xs="12px", sm="13px", md="14px", lg="16px", xl="20px", xxl="24px", name="ladder_text")
_SPACE = Size(xxs="2px", xs="4px", sm="6px", md="8px", lg="12px", xl="16px", xxl="24px", name="ladder_space")
_RADIUS = Size(xxs="2px", xs="4px", sm="6px", md="6px", lg="6px", xl="6px", xxl="6px", name="ladder_radius")


def build_theme() -> gr.themes.Base:
    """The studio's theme. Only these weights of these fonts are complete among those that Gradio brings along."""
    theme = gr.themes.Base(
        primary_hue=_TEAL,
        secondary_hue=_TEAL,
        neutral_hue=_SLATE,
        text_size=_TEXT,
        spacing_size=_SPACE,
        radius_size=_RADIUS,
        font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "monospace"],
    )
    return theme.set(**_surfaces(), **_inputs(), **_buttons())


def _surfaces() -> dict[str, str]:
    return {
        "body_background_fill": "*neutral_50",
        "body_background_fill_dark": "*neutral_950",
        "body_text_color": "#0f172a",
        "body_text_color_dark": "#e2e8f0",
        "body_text_color_subdued": "*neutral_600",
        "body_text_color_subdued_dark": "#a3b1c6",
        "background_fill_primary": "white",
        "background_fill_primary_dark": "*neutral_900",
        "background_fill_secondary": "*neutral_100",
        "background_fill_secondary_dark": "*neutral_800",
        "border_color_primary": "*neutral_200",
        "border_color_primary_dark": "*neutral_700",
        "border_color_accent": "*primary_600",
        "border_color_accent_dark": "*primary_400",
        "color_accent": "*primary_600",
        "color_accent_soft": "*primary_50",
        "color_accent_soft_dark": "#12332f",
        "link_text_color": "*primary_700",
        "link_text_color_dark": "*primary_400",
        "link_text_color_hover": "*primary_800",
        "link_text_color_hover_dark": "*primary_300",
        "link_text_color_active": "*primary_800",
        "link_text_color_active_dark": "*primary_300",
        "link_text_color_visited": "*primary_700",
        "link_text_color_visited_dark": "*primary_400",
        "shadow_drop": "none",
        "shadow_drop_lg": "0 8px 24px rgba(15, 23, 42, 0.16)",
        "layout_gap": "16px",
        "form_gap_width": "12px",
        "block_background_fill": "transparent",
        "block_background_fill_dark": "transparent",
        "block_border_width": "0px",
        "block_border_width_dark": "0px",
        "block_border_color": "transparent",
        "block_border_color_dark": "transparent",
        "block_padding": "0px",
        "block_shadow": "none",
        "block_label_background_fill": "transparent",
        "block_label_background_fill_dark": "transparent",
        "block_label_border_width": "0px",
        "block_label_border_width_dark": "0px",
        "block_label_text_color": "*body_text_color",
        "block_label_text_color_dark": "*body_text_color",
        "block_label_text_size": "*text_sm",
        "block_label_text_weight": "700",
        "block_label_padding": "0px 0px 4px",
        "block_title_text_color": "*body_text_color",
        "block_title_text_color_dark": "*body_text_color",
        "block_title_text_size": "*text_sm",
        "block_title_text_weight": "700",
        "block_info_text_size": "*text_sm",
        "panel_background_fill": "transparent",
        "panel_background_fill_dark": "transparent",
        "panel_border_width": "0px",
        "section_header_text_size": "*text_lg",
        "section_header_text_weight": "700",
        "stat_background_fill": "*primary_600",
        "stat_background_fill_dark": "*primary_400",
        "chatbot_text_size": "*text_md",
        "table_border_color": "*neutral_200",
        "table_border_color_dark": "*neutral_700",
        "table_even_background_fill": "white",
        "table_even_background_fill_dark": "*neutral_900",
        "table_odd_background_fill": "white",
        "table_odd_background_fill_dark": "*neutral_900",
        "error_background_fill_dark": "*neutral_900",
    }


def _inputs() -> dict[str, str]:
    return {
        "input_background_fill": "white",
        "input_background_fill_dark": "*neutral_950",
        "input_border_color": "*neutral_300",
        "input_border_color_dark": "*neutral_600",
        "input_border_color_focus": "*primary_600",
        "input_border_color_focus_dark": "*primary_400",
        "input_border_width": "1px",
        "input_padding": "7px 10px",
        "input_placeholder_color": "*neutral_500",
        "input_placeholder_color_dark": "*neutral_400",
        "input_shadow_focus": "inset 0 0 0 1px *primary_600",
        "input_shadow_focus_dark": "inset 0 0 0 1px *primary_400",
        "input_text_size": "*text_md",
        "checkbox_border_color": "*neutral_400",
        "checkbox_border_color_dark": "*neutral_500",
        "checkbox_background_color_selected": "*primary_700",
        "checkbox_background_color_selected_dark": "*primary_700",
        "checkbox_border_color_selected": "*primary_700",
        "checkbox_border_color_selected_dark": "*primary_400",
        "checkbox_label_background_fill": "white",
        "checkbox_label_background_fill_dark": "*neutral_950",
        "checkbox_label_background_fill_hover": "*neutral_100",
        "checkbox_label_background_fill_hover_dark": "*neutral_800",
        "checkbox_label_background_fill_selected": "*primary_50",
        "checkbox_label_background_fill_selected_dark": "#12332f",
        "checkbox_label_border_width": "1px",
        "checkbox_label_border_color": "*neutral_300",
        "checkbox_label_border_color_dark": "*neutral_600",
        "checkbox_label_border_color_selected": "*primary_700",
        "checkbox_label_border_color_selected_dark": "*primary_400",
        "checkbox_label_padding": "6px 10px",
        "checkbox_label_text_color_selected": "*body_text_color",
        "checkbox_label_text_color_selected_dark": "*body_text_color",
        "checkbox_label_shadow": "none",
        "slider_color": "*primary_600",
        "slider_color_dark": "*primary_400",
    }


def _buttons() -> dict[str, str]:
    # White on teal 600 has a contrast of 3.7 only, so the fill of the primary action is one step darker.
    return {
        "button_transition": "background-color 120ms ease, border-color 120ms ease, opacity 120ms ease",
        "button_border_width": "1px",
        "button_primary_background_fill": "*primary_700",
        "button_primary_background_fill_dark": "*primary_400",
        "button_primary_background_fill_hover": "*primary_800",
        "button_primary_background_fill_hover_dark": "*primary_300",
        "button_primary_text_color": "white",
        "button_primary_text_color_dark": "*primary_950",
        "button_primary_border_color": "transparent",
        "button_primary_border_color_dark": "transparent",
        "button_secondary_background_fill": "white",
        "button_secondary_background_fill_dark": "*neutral_800",
        "button_secondary_background_fill_hover": "*neutral_100",
        "button_secondary_background_fill_hover_dark": "*neutral_700",
        "button_secondary_text_color": "#0f172a",
        "button_secondary_text_color_dark": "#e2e8f0",
        "button_secondary_border_color": "*neutral_300",
        "button_secondary_border_color_dark": "*neutral_600",
        "button_cancel_background_fill": "white",
        "button_cancel_background_fill_dark": "*neutral_800",
        "button_cancel_background_fill_hover": "#fef2f2",
        "button_cancel_background_fill_hover_dark": "#3b1a1f",
        "button_cancel_text_color": "#b91c1c",
        "button_cancel_text_color_dark": "#fca5a5",
        "button_cancel_text_color_hover": "#b91c1c",
        "button_cancel_text_color_hover_dark": "#fca5a5",
        "button_cancel_border_color": "*neutral_300",
        "button_cancel_border_color_dark": "*neutral_600",
        "button_large_padding": "7px 14px",
        "button_large_text_size": "*text_md",
        "button_large_text_weight": "700",
        "button_medium_padding": "7px 14px",
        "button_medium_text_size": "*text_md",
        "button_medium_text_weight": "700",
        "button_small_padding": "3px 10px",
        "button_small_text_size": "*text_sm",
        "button_small_text_weight": "400",
    }
