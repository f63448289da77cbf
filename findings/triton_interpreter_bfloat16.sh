#!/usr/bin/env bash
# Triton's interpreter multiplies the bits of bfloat16 numbers as integers in tl.dot.
#
# Expected: the product of bfloat16 matrices in the interpreter, which exists to find mistakes without a GPU, is that of
# the numbers, rounded as float32 at most.
# Happens: the interpreter stores bfloat16 as uint16, and tl.dot multiplies these integers; float16 and float32 are right.
# A product of matrices of ones, 16 in every cell, is 16 * 16256^2 = 4228120576 (16256 are the bits of 1.0).
# Versions: triton 3.6.0, torch 2.13.0, numpy 2.3.5
# Output seen:
#   triton 3.6.0
#   float32 ones: 16.0
#   float16 ones: 16.0
#   bfloat16 ones: 4228120576.0
#
# Why it matters: kernels that score rows by bfloat16 products on tensor cores label every row wrongly in the interpreter,
# and a kernel that was "mended" until the interpreter agreed would be wrong on a GPU.
# This engine: kernels/cuda casts the parts to float32 in the interpreter, where their products are exact, too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile triton==3.6.0 torch==2.13.0 numpy==2.3.5
cd "$folder"
cat > product.py <<'PYTHON'
import torch
import triton
import triton.language as tl


@triton.jit
def multiply(left, right, out, SIZE: tl.constexpr):
    row, column = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    at = row * SIZE + column
    tl.store(out + at, tl.dot(tl.load(left + at), tl.load(right + at), out_dtype=tl.float32))


print("triton", triton.__version__)
found = {}
for kind in (torch.float32, torch.float16, torch.bfloat16):
    ones, out = torch.ones(16, 16, dtype=kind), torch.zeros(16, 16)
    multiply[(1,)](ones, ones, out, SIZE=16)
    name = str(kind).removeprefix("torch.")
    found[name] = float(out[0, 0])
    print(f"{name} ones: {found[name]}")
if found != {"float32": 16.0, "float16": 16.0, "bfloat16": 16.0 * 16256.0**2}:
    raise SystemExit("changed: the products are others")
PYTHON
TRITON_INTERPRET=1 venv/bin/python product.py
