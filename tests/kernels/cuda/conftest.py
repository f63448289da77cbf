"""Tests of the Triton kernels run in Triton's interpreter, which has to be chosen before a kernel is imported."""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"
