"""Give Arrow's threads memory of its own: freeing a buffer that refers to a Python object takes the interpreter's lock.

Arrow's streaming readers read ahead in threads, which may drop their last buffer after Python has ended. There is no
lock to take then: the thread is unwound through C++, which aborts the process ("terminate called without an active
exception"), whatever its exit code would have been.
"""

from __future__ import annotations

import pyarrow as pa


def arrow_reader(data: bytes) -> pa.BufferReader:
    """Return a reader of a copy of the bytes, in memory that belongs to Arrow."""
    copy = pa.BufferOutputStream()
    copy.write(data)
    return pa.BufferReader(copy.getvalue())
