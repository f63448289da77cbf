"""What the process that workers are forked from imports, once for all of them.

Only that process imports this module, for it changes the process: Python's fork server forks once its imports are done.
"""

from __future__ import annotations

import gc
import importlib
import signal

from engine.utils.hide_pandas import arrow_without_pandas

_NEEDED = (
    "distributed.nanny",
    "engine.backends.syrk",
    "engine.kernels.cpu.hashing.string_hash",
    "engine.model.model",
    "engine.pipeline.fit",
    "engine.kmeans.distributed",
    "fsspec.implementations.local",
)

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started us, and who ends the workers
gc.disable()
arrow_without_pandas()
for _name in _NEEDED:
    importlib.import_module(_name)
gc.enable()
gc.freeze()  # looking through these objects would write to their pages, and copy what workers share
