"""Loops over rows: cpu (numba), arrays (whole-array code for CuPy or NumPy) and cuda (Triton).

The same stages have folders of the same names in each. Kernels loop, and import nothing of the engine but its errors.
The folder is installed as the package engine.kernels.
"""
