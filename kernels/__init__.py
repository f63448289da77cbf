"""Loops over rows, one folder a device: cpu (numba) and arrays (whole-array code for CuPy or NumPy).

The same stages have folders of the same names in both. Kernels loop, and import nothing of the engine but its errors.
The folder is installed as the package engine.kernels.
"""
