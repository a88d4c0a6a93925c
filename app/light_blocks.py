"""Gradio's Blocks, without the work that our pages have no use for.

Measured at 32 answers at once, Gradio 6.31 spent two thirds of the event loop's time at their beginnings and ends, next
to all of it on components: for every output that a handler leaves out, or only hides, it makes a new one.

All that is used of Gradio beyond its documentation is in this file and in `app.live_page`;
`tests/app/test_light_blocks.py` and `tests/app/test_live_page.py` hold Gradio to it.
"""

from __future__ import annotations

import math
from copy import copy
from typing import Any

import gradio as gr

from app.updates import UNCHANGED

BETWEEN_LOOKS_S = 0.01
"""Between looks for new events while there are none; Gradio's own 0.001 s costs 4 % of a core in an idle server."""

_LOOKS = frozenset({"__type__", "visible", "interactive"})
"""Properties that only the page knows what to do with: no handler's inputs or outputs are read another way for them."""


class LightBlocks(gr.Blocks):  # type: ignore[misc]
    """As `gr.Blocks`, for handlers that return `Updates`."""

    def queue(self, *args: Any, **options: Any) -> LightBlocks:
        """As in Gradio, with a queue that rests while nothing happens and keeps no statistics.

        Gradio makes a table of the last 10,000 events anew at the end of each, for a page that we do not serve.
        """
        super().queue(*args, **options)
        self._queue.sleep_when_free = BETWEEN_LOOKS_S
        self._queue.ANALYTICS_MAX_EVENTS = 1
        self._queue.ANAYLTICS_CACHE_FREQUENCY = math.inf  # spelt so there
        return self

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        """One value an output, as the page is sent them, from what a handler returned.

        Gradio prepares what needs it. What stays as it is, and what is only shown, hidden, locked or unlocked, is sent
        as it is.
        """
        if isinstance(predictions, dict) and predictions == UNCHANGED:
            predictions = {}
        elif not isinstance(predictions, dict) or not predictions.keys() <= set(block_fn.outputs):
            return list(await super().postprocess_data(block_fn, predictions, state))
        as_they_are = {one: value for one, value in predictions.items() if _is_looks(one, value)}
        prepared = {one: value for one, value in predictions.items() if one not in as_they_are}
        if prepared:
            part = copy(block_fn)
            part.outputs = [one for one in block_fn.outputs if one in prepared]
            values = await super().postprocess_data(part, prepared, state)
            as_they_are |= dict(zip(part.outputs, values, strict=True))
        return [as_they_are.get(one, None if one.stateful else dict(UNCHANGED)) for one in block_fn.outputs]


def _is_looks(component: Any, value: Any) -> bool:
    """Whether the value is an update of nothing but how a component looks."""
    is_update = isinstance(value, dict) and value.get("__type__") == "update" and not component.stateful
    return is_update and value.keys() <= _LOOKS and None not in value.values()
