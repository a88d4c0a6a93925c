"""The Tokens page: how probable each token of a text is to a model, and how each model splits the text."""
