"""Check on a GPU that whole-number ids are present and unique: the counterpart of tables/unique_ids.py.

    GpuTableReader, id column  ->  the digest of the ids, or None where the CPU has to look

Keys and digest are the CPU's, in 64-bit integers; different whole numbers have different keys.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from engine.features.gpu_reader import GpuTableReader
from engine.tables.device_columns import DeviceColumns
from engine.utils.row_sampling import GOLDEN, mix64

KEY_BYTES = 24  # of device memory for each row: keys, sorted keys, and what sorting takes
MEMORY_SHARE = 0.5  # of the free device memory, at most, for keys


def reads_ids(reader: GpuTableReader | str, id: str) -> bool:
    """Tell whether a device reads the ids: whole numbers that fit into int64, which its library reads."""
    return not (isinstance(reader, str) or id in reader.unreadable) and _is_int64(reader.table.schema.field(id).type)


def digest_unique_ids(reader: GpuTableReader | str, id: str, n_rows: int) -> int | None:
    """Return the digest of the ids (see unique_ids.digest_ids) if they are whole numbers, present and unique.

    None says that the CPU has to look: ids are repeated or missing, which it reports, or they are no int64, the
    device's library does not read them, or its memory does not suffice.
    """
    if isinstance(reader, str) or not reads_ids(reader, id):
        return None
    device = reader.device
    xp, free = device.xp, device.free_memory()
    if free is not None and KEY_BYTES * n_rows > MEMORY_SHARE * free:
        return None

    def read_keys(start: int, columns: DeviceColumns) -> tuple[int, int]:
        """Write the keys of a chunk; return their digest and the number of missing ids."""
        values, missing = columns.integers(id)
        part = mix64(values.astype(np.uint64))
        keys[start : start + len(part)] = part
        rows = xp.arange(start, start + len(part)).astype(np.uint64)
        return int(mix64(part + rows * GOLDEN).sum()), int(missing.sum())

    try:
        keys = xp.empty(n_rows, np.uint64)
        parts = [part for _, part in reader.map(read_keys, [id])]
        keys = xp.sort(keys)
        n_repeated = int((keys[1:] == keys[:-1]).sum())
    except MemoryError:
        device.free_unused_memory()
        return None
    if n_repeated or any(n_missing for _, n_missing in parts):
        return None
    return sum(digest for digest, _ in parts) % 2**64


def _is_int64(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) and not pa.types.is_uint64(kind))
