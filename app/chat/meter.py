"""How full the context is."""

from __future__ import annotations

from app.chat.conversation import Conversation
from model.interface import Engine


def num_tokens(engine: Engine, conversation: Conversation, *, prefix: str = "", typed: str = "") -> int:
    """Tokens of the prompt that would be sent now: the conversation, and what is typed as its next message."""
    asked = conversation.ask(typed) if typed.strip() else conversation
    if not asked.turns:
        return 0
    return len(engine.tokenizer.encode_prompt(engine.chat_template.render(asked.messages(prefix))))


def meter_html(num: int, context_length: int) -> str:
    """A bar and its numbers, in colour where the context is nearly or quite full."""
    full = " full" if num >= context_length else ""
    return (
        f'<div class="meter{full}"><meter aria-label="Context in use" min="0" max="{context_length}" '
        f'high="{context_length * 3 // 4}" optimum="0" value="{min(num, context_length)}"></meter>'
        f"<span>Context: {num:,} of {context_length:,} tokens</span></div>"
    )
