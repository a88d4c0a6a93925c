"""Putting texts into classes: by the likelihood of labels or by a trained head, one text or a whole file."""
