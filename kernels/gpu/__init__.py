"""Triton kernels. Each file: kernel, launcher, cases; what it computes is defined by the reference in `kernels`.

Triton is imported here and nowhere else: torch's CPU build brings none, and nothing outside this folder needs it.
"""
