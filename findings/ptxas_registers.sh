#!/usr/bin/env bash
# ptxas of CUDA 12.9 assembles the same PTX for sm_100a to other bytes at each start, unless addresses are not randomized.
#
# Expected: an assembler gives the same cubin for the same PTX and options, so that a build can be repeated and compared.
# Happens: two processes of ptxas swap uniform registers between two operands of a matrix product; with the randomization
# of addresses switched off (setarch -R), all processes agree. The ptxas for sm_90a in the same wheel always agrees.
# Versions: triton 3.6.0 (its wheel brings ptxas 12.8.93, and ptxas-blackwell 12.9.86 for sm_100 and later), Linux x86_64
# Output seen:
#   ptxas 12.8.93 sm_90a: 1 cubin of 24 starts, 1 without randomized addresses
#   ptxas-blackwell 12.9.86 sm_100a: 2 cubins of 24 starts, 1 without randomized addresses
#
# Why it matters: cubins that are compiled ahead and committed cannot be checked by their bytes, and a test that does so
# fails now and then. Caches by content and reproducible builds fail alike.
# This engine: kernels/cuda/build.py records a hash of each kernel's PTX; tests compare it, and for sm_100 the instructions
# without their registers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile triton==3.6.0
cd "$folder"
cat > assemble.py <<'PYTHON'
import re
import subprocess
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

STARTS = 24
BINARIES = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@triton.jit
def score(left, right, out, n, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):
    row, column, depth = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :], tl.arange(0, DEPTH)
    a = tl.load(left + row * DEPTH + depth[None, :])
    for first in range(0, n, COLUMNS):
        b = tl.load(right + (first + column) * DEPTH + depth[:, None])
        tl.store(out + row * n + first + column, tl.dot(a, b) + tl.dot(-a, b * b))


def cubins(assembler: Path, architecture: str, prefix: list[str]) -> int:
    """Return how many different cubins ptxas makes of the PTX."""
    found = set()
    for _ in range(STARTS):
        subprocess.run([*prefix, assembler, "-arch", architecture, "kernel.ptx", "-o", "kernel.cubin"], check=True)
        found.add(Path("kernel.cubin").read_bytes())
    return len(found)


sizes = {"ROWS": 64, "COLUMNS": 32, "DEPTH": 64}
signature = {"left": "*bf16", "right": "*bf16", "out": "*fp32", "n": "i32"} | dict.fromkeys(sizes, "constexpr")
counts = []
for architecture, name in ((90, "ptxas"), (100, "ptxas-blackwell")):
    source = ASTSource(score, signature, sizes, {(i,): [["tt.divisibility", 16]] for i in range(3)})
    kernel = compile(source, target=GPUTarget("cuda", architecture, 32), options={"num_warps": 4})
    Path("kernel.ptx").write_text(kernel.asm["ptx"])
    version = subprocess.run([BINARIES / name, "--version"], capture_output=True, text=True, check=True).stdout
    (version,) = re.findall(r"V(\d+\.\d+\.\d+)", version)
    seen, fixed = (cubins(BINARIES / name, f"sm_{architecture}a", prefix) for prefix in ([], ["setarch", "-R"]))
    print(
        f"{name} {version} sm_{architecture}a: {seen} cubin{'s' * (seen > 1)} of {STARTS} starts, "
        f"{fixed} without randomized addresses"
    )
    counts.append((seen, fixed))
if not (counts[0] == (1, 1) and counts[1][0] > 1 and counts[1][1] == 1):
    raise SystemExit("changed: the assembler repeats its bytes, or no longer does without randomized addresses")
PYTHON
TRITON_CACHE_DIR="$folder/cache" venv/bin/python assemble.py
