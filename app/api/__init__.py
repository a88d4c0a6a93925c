"""The HTTP API over one engine: OpenAI's (completions, chat, models), Adept's own, tokens, health and metrics."""
