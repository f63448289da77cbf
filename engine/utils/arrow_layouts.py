"""Rewrite Arrow columns of rare layouts in those that pyarrow casts, reads and joins rightly.

    column of any type  ->  the same values without run ends, list views, extension types, and dictionaries of them

pyarrow 26 casts a list view to a list with offsets that lack the end of the last list, and so loses that list; it
decodes run ends of plain values only, and cannot take rows of string views. Decimals in dictionaries are taken out, so
that decimals.py can convert them.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def has_rare_layout(kind: pa.DataType) -> bool:
    """Tell whether a type, or one within it, has a layout that `plain_layout` rewrites."""
    if isinstance(kind, pa.BaseExtensionType) or pa.types.is_run_end_encoded(kind) or _is_list_view(kind):
        return True
    if pa.types.is_dictionary(kind):
        values = kind.value_type
        return bool(values == pa.string_view() or pa.types.is_decimal(values) or has_rare_layout(values))
    return _is_list(kind) and has_rare_layout(kind.value_type)


def plain_layout(column: pa.Array) -> pa.Array:
    """Return the same values in a layout that is not rare."""
    kind = column.type
    if not has_rare_layout(kind):
        return column
    if isinstance(kind, pa.BaseExtensionType):
        return plain_layout(column.cast(kind.storage_type))
    if pa.types.is_run_end_encoded(kind):
        rows = column.offset + np.arange(len(column))
        runs = np.searchsorted(column.run_ends.to_numpy(), rows, side="right")
        return _takeable(column.values).take(pa.array(runs))
    if pa.types.is_dictionary(kind):
        if pa.types.is_decimal(kind.value_type):
            return column.dictionary_decode()
        return pa.DictionaryArray.from_arrays(column.indices, _takeable(column.dictionary))
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    values = plain_layout(column.flatten())
    return pa.LargeListArray.from_arrays(pa.array(offsets), values, mask=column.is_null())


def _takeable(values: pa.Array) -> pa.Array:
    values = plain_layout(values)
    return values.cast(pa.string()) if values.type == pa.string_view() else values


def _is_list_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
