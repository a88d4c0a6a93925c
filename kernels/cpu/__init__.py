"""Kernels for CPUs: compiled by Numba when they are first needed, run by torch's own threads.

Each takes float32 and does in one call what torch's operations take many for; the definitions are those of the Triton
kernels, in the folder above. Importing a module of this folder imports Numba; `threads` alone does not.
"""
