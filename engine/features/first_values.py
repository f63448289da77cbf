"""Read the first values of columns, which decide how the columns are read.

    table, columns  ->  a block: its first rows; a column without a value there has those of the first later block

A column that was added last month has no value for the members who joined before, who may be the first of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import pyarrow as pa

from engine.blocks import Block, Table

MAX_BLOCKS = 64  # 2 million rows: in which values are looked for


def read_first_values(table: Table, columns: Sequence[str]) -> Block | None:
    """Return the first block of these columns; None if there are no columns.

    A column that is empty there has the values of the first of MAX_BLOCKS blocks where it is not, in other rows.
    """
    if not columns:
        return None
    first = next(table.blocks(columns, dictionary_encoded=True))
    rows = first.rows
    empty = [name for name in columns if rows.column(name).null_count == len(first)]
    if not empty or len(first) == table.n_rows:
        return first
    for block in islice(table.blocks(empty, dictionary_encoded=True), 1, MAX_BLOCKS):
        for name in empty:
            values = block.rows.column(name)
            if values.null_count < len(block):
                filled = pa.chunked_array([*values.chunks, pa.nulls(len(first) - len(values), values.type)])
                field = block.rows.schema.field(name)
                rows = rows.set_column(rows.schema.get_field_index(name), field, filled.combine_chunks())
        empty = [name for name in empty if block.rows.column(name).null_count == len(block)]
        if not empty:
            break
    return Block(first.start, rows)
