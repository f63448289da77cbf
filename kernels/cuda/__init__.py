"""CUDA kernels, written in Triton: they run in its interpreter without a GPU, and compile offline (build.py).

The folders mirror kernels/cpu and kernels/arrays. Nothing here imports Triton but the kernels themselves and build.py.
Not measured yet on a GPU.
"""
