"""The Classify page: one text or a file, by the likelihood of labels or by a trained head."""

from __future__ import annotations

import gradio as gr

from app.classify.controls import Controls
from app.classify.file_panel import FilePanel
from app.classify.one_text import OneText
from app.classify.train_panel import TrainPanel
from app.context import AppContext
from app.look import title_html

ABOUT = "Labels for one text or for every row of a file, by how likely a model writes them, or by a head trained here."


def build_page(context: AppContext) -> None:
    """The page, into the Blocks around it."""
    gr.Markdown(title_html("Classify", ABOUT), sanitize_html=False)
    with gr.Row(elem_id="classify"):
        work = gr.Column(scale=3, min_width=300, elem_id="classify-result")
        with gr.Column(scale=2, min_width=300, elem_id="classify-controls"):
            controls = Controls(context)
    with work, gr.Tabs():  # filled last: it reads the controls, but stands before them
        with gr.Tab("One text"):
            OneText(context, controls)
        with gr.Tab("A file"):
            FilePanel(context, controls)
        with gr.Tab("Train a head"):
            TrainPanel(context, controls)
