"""Kernels for CPUs, written in Numba's language and run by torch's own threads.

Each takes float32 and does in one call what torch's operations take many for; the definitions are those of the Triton
kernels, in the folder above. `language`, `tile` and what ends in `_kernel` are imported by `compile` alone, in a
process of its own; `code` keeps what it makes.
"""
