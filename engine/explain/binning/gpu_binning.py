"""Pack the bins of a chunk of columns on a GPU, to the bytes of Binner.pack_into.

    Binner, columns on the device  ->  packed (n_lines, n_rows) uint8, on the host

Categories and texts that are split are packed once per distinct value, by the CPU's own functions; numbers and lists
are packed row by row on the device.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from engine.backends.chunked import ChunkedDevice
from engine.explain.binning.binner import LABELS_PER_LINE, Binner, PackedBins, PackedColumn
from engine.features.columnar_block import ReadSpec, read_block, to_text
from engine.features.gpu_values import read_numbers
from engine.kernels.cpu.explain.bucketize import MISSING
from engine.tables.device_columns import Array, DeviceColumns


def pack_on_device(
    binner: Binner, read_specs: Mapping[str, ReadSpec], device: ChunkedDevice, columns: DeviceColumns
) -> PackedBins:
    """Return the packed bins of a chunk's rows; `read_specs` says how each column is read."""
    packed = device.xp.empty((binner.n_lines, len(columns)), np.uint8)
    for column in binner.columns:
        if not column.predicates:
            continue
        name = column.plan.column
        lines = slice(column.first_line, column.first_line + column.n_lines)
        if column.lookup is not None:
            packed[lines] = _pack_numbers(device, columns, column, read_specs[name])
        elif read_specs[name].form == "labels" and read_specs[name].separator is None:
            packed[lines] = _pack_lists(device, columns, binner, column)
        else:
            packed[lines] = _pack_distinct(device, columns, binner, column, read_specs[name])
    host: PackedBins = device.to_host(packed)
    return host


def _pack_numbers(device: ChunkedDevice, columns: DeviceColumns, column: PackedColumn, read_spec: ReadSpec) -> Array:
    """Return how many thresholds each number has reached."""
    xp, lookup = device.xp, column.lookup
    assert lookup is not None
    values = read_numbers(xp, columns, column.plan.column, read_spec).values
    thresholds = lookup.thresholds[~np.isnan(lookup.thresholds)]
    if len(thresholds) == 0:
        return xp.where(xp.isnan(values), MISSING, 0).astype(np.uint8)
    reached = xp.searchsorted(xp.asarray(thresholds), values, side="right")
    return xp.where(xp.isnan(values), MISSING, reached).astype(np.uint8)


def _pack_distinct(
    device: ChunkedDevice, columns: DeviceColumns, binner: Binner, column: PackedColumn, read_spec: ReadSpec
) -> Array:
    """Return the lines of a column of texts: those of a missing value and of every distinct text, looked up."""
    name = column.plan.column
    encoded = columns.dictionary(name)
    texts = pa.concat_arrays([pa.nulls(1, pa.string()), to_text(encoded.dictionary).cast(pa.string())])
    distinct = read_block(pa.table({name: texts}), {name: read_spec})
    table = np.empty((column.n_lines, len(texts)), np.uint8)
    binner.pack_column(column, distinct, table)
    return device.xp.asarray(table)[:, encoded.codes + 1]


def _pack_lists(device: ChunkedDevice, columns: DeviceColumns, binner: Binner, column: PackedColumn) -> Array:
    """Return the lines of a column of lists: a bit for every label that the list has."""
    xp = device.xp
    lengths, missing, elements = columns.lists(column.plan.column)
    bits = {binner.predicates[index].value: bit for bit, index in enumerate(column.predicates)}
    names = to_text(elements.dictionary).to_pylist()
    bit_of = np.array([-1, *(-1 if name in (None, "") else bits.get(name, -1) for name in names)], np.int64)
    element_bits = xp.asarray(bit_of)[elements.codes + 1]
    ends = xp.cumsum(lengths)
    begins = ends - lengths
    packed = xp.zeros((column.n_lines, len(columns)), np.uint8)
    for value, bit in bits.items():
        has_label = missing
        if value is not None:
            n_before = xp.zeros(len(element_bits) + 1, np.int64)
            n_before[1:] = xp.cumsum(element_bits == bit)
            has_label = n_before[ends] > n_before[begins]
        packed[bit // LABELS_PER_LINE] += has_label.astype(np.uint8) * np.uint8(1 << (bit % LABELS_PER_LINE))
    return packed
