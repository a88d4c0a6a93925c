"""The chat page: a conversation with a model, and what each answer took."""
