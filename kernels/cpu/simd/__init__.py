"""Explicit SIMD for numba: vector types that live in registers, and the operations of the kernels on them.

vectors.py has the types and their general operations, quantized.py and fixed_point.py those on partial vectors of rows.
README.md says what to know before a change here.
"""
