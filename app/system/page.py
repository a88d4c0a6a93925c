"""The System page. It asks for news only while it is open, and only for snapshots that the engines keep anyway."""

from __future__ import annotations

from functools import partial

import gradio as gr

from app.context import AppContext
from app.look import title_html
from app.system.history import EVERY_S, LoadHistory, stats_of
from app.system.view import facts_html, heading_html, load_html
from model.interface import Engine


def build_page(context: AppContext) -> None:
    """The page, into the Blocks around it; the load is sampled from now on."""
    history = LoadHistory(context.engines)
    history.start()

    def load(name: str, engine: Engine) -> str:
        return load_html(engine.info, stats_of(engine), history.of(name))

    def all_loads() -> list[str]:
        return [load(name, engine) for name, engine in context.engines.items()]

    loads = []
    with gr.Column(elem_id="system"):
        gr.Markdown(title_html("System", "What runs here and why, and how busy it is, live."), sanitize_html=False)
        for name, engine in context.engines.items():
            gr.Markdown(heading_html(engine.info), sanitize_html=False, latex_delimiters=[])
            loads.append(gr.Markdown(partial(load, name, engine), sanitize_html=False, latex_delimiters=[]))
            gr.Markdown(facts_html(engine.info), sanitize_html=False, latex_delimiters=[])
    timer = gr.Timer(EVERY_S)
    outputs = loads if len(loads) > 1 else loads[0]
    timer.tick(
        all_loads if len(loads) > 1 else lambda: all_loads()[0],
        None,
        outputs,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
