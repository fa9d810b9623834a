"""How the demo looks. Fonts are those of the reader's system: the page takes nothing from a network."""

from __future__ import annotations

from typing import Any

TITLE = "minivlm · 看图说话"
HEADER = """
<header class="top">
  <h1>minivlm <span>看图说话</span></h1>
  <p>一个从零训练的小型中文视觉语言模型 <i>A small Chinese vision-language model, trained from scratch</i></p>
</header>
"""
EXAMPLES = '<h2 class="part">示例 Examples</h2>'
PLACEHOLDER = """
<div class="empty"><b>选一张图片，问一个问题</b><br>Choose a picture and ask about it</div>
"""

CSS = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; padding: 20px 24px 12px !important; }
.top { padding: 2px 2px 6px; }
.top h1 { font-size: 26px; font-weight: 700; letter-spacing: -0.01em; margin: 0; }
.top h1 span { font-weight: 400; margin-left: 6px; color: var(--primary-700); }
.dark .top h1 span { color: var(--primary-300); }
.top p { margin: 4px 0 0; color: var(--body-text-color-subdued); }
.top p i { font-style: normal; color: inherit; margin-left: 8px; }
h2.part { font-size: 14px; font-weight: 600; margin: 0 2px; color: var(--block-title-text-color); }
.empty { text-align: center; color: var(--body-text-color-subdued); line-height: 1.9; }
/* The label and the button that removes the picture stand above it: Gradio lays both over its corners. */
#picture { padding-top: 40px; }
#picture .image-container { position: static; }
#examples-title { margin: 0 0 -12px; }
#examples { padding: 0; min-height: 0; }
#examples .grid-wrap { min-height: 0; height: auto !important; max-height: none; padding: 10px; }
#examples .grid-container { gap: 8px; }
#examples .thumbnail-item { border-radius: 8px; }
#examples .caption-label { max-width: 100%; border: 0; font-size: 12px; padding: 1px 6px; }
#status { min-height: 24px; padding: 0 4px; font-size: 13px; color: var(--body-text-color-subdued); }
#status .wrong { color: #b42318; font-weight: 600; }
.dark #status .wrong { color: #ff9d91; }
#chat .message { font-size: 16px; line-height: 1.75; }
"""


def theme() -> Any:
    """Quiet colours, one accent, round corners."""
    import gradio as gr

    # As Font, not as text: Gradio would look for the files of a name, and the browser with it.
    sans = ["system-ui", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "Source Han Sans SC", "sans-serif"]
    mono = ["ui-monospace", "Consolas", "monospace"]
    return gr.themes.Soft(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=[gr.themes.Font(name) for name in sans],
        font_mono=[gr.themes.Font(name) for name in mono],
    ).set(  # cards on a ground, and text that all can read: 4.5 : 1 at least
        body_background_fill="*neutral_100",
        block_shadow="0 1px 3px rgb(15 23 42 / 0.08)",
        block_label_background_fill_dark="*primary_700",
        block_title_background_fill_dark="*primary_700",
        input_border_color="*neutral_200",
        input_placeholder_color_dark="*neutral_400",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_label_text_color="*primary_800",
        block_title_text_color="*primary_800",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        checkbox_label_background_fill_selected="*primary_700",
        checkbox_label_background_fill_selected_dark="*primary_700",
        checkbox_background_color_selected="*primary_900",
        input_placeholder_color="*neutral_500",
    )
