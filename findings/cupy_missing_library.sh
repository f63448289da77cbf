#!/usr/bin/env bash
# hasattr(cupy.cuda, "cublas") raises an error where cuBLAS is missing, instead of being False.
#
# Expected: a module either has an attribute or raises AttributeError, so hasattr and getattr with a default never fail;
# and a library that is missing shows when cupy is imported.
# Happens: `import cupy` works without any CUDA library, CuPy looks for a library at the first look at its module, and
# what it raises then is no AttributeError: hasattr raises it, too.
# Versions: cupy-cuda13x 14.2.0 (on a machine without CUDA libraries)
# Output seen:
#   cupy 14.2.0 is imported
#   hasattr(cupy.cuda, "runtime"): True
#   hasattr(cupy.cuda, "cublas") raises ImportError
#
# Why it matters: a job that asks "can CuPy compute here?" by importing it, or collects error classes with getattr, learns
# in the middle of a fit that products of matrices cannot be computed, or fails while it looks.
# This engine: its probe launches a kernel and multiplies matrices before a GPU is used, and expects any error while it
# collects CUDA's error classes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile cupy-cuda13x==14.2.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import ctypes.util

import cupy

print("cupy", cupy.__version__, "is imported")
print('hasattr(cupy.cuda, "runtime"):', hasattr(cupy.cuda, "runtime"))
if ctypes.util.find_library("cublasLt"):
    raise SystemExit("not applicable: this machine has cuBLAS")
try:
    answer = hasattr(cupy.cuda, "cublas")
except Exception as error:
    if isinstance(error, AttributeError):
        raise SystemExit("changed: the error is an AttributeError") from error
    print('hasattr(cupy.cuda, "cublas") raises', type(error).__name__)
else:
    raise SystemExit(f"changed: hasattr returns {answer}")
PYTHON
