"""Tensors in, tensors out: every operation the engine runs on a GPU, each beside the reference that defines it."""
