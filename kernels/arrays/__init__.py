"""Kernels on whole arrays, for an array module `xp`: CuPy on a GPU, NumPy in tests.

The folders mirror kernels/cpu: a file of the same name computes the same, to the bit or within rounding, as its header
says. Array code never calls a library by its name: functions take `xp` and use only what NumPy and CuPy have in common,
and np itself for dtypes, constants and values on the host. `chunk_values` limits how many values an intermediate array
holds.
"""
