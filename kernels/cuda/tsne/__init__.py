"""Triton kernels of the map."""
