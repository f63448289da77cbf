"""Read where a cubin has the parameters of its kernel: the table that NVIDIA's driver copies arguments by."""

from __future__ import annotations

import struct

import numpy as np

from engine.kernels.cuda.launch import SCALARS, CompiledKernel

PARAMETER_INFO = 0x17  # EIATTR_KPARAM_INFO: number, ordinal, offset, and the size in the upper 14 bits of the last word
FIXED, SIZED = (1, 2, 3), 4  # formats of attributes: none, 1 or 2 bytes in place of a length; or a length and bytes


def read_layout(kernel: CompiledKernel) -> list[tuple[int, int]]:
    """Return offset and size of every parameter; those of a kernel that was not compiled follow C's rules."""
    if kernel.cubin.startswith(b"\x7fELF"):
        return read_parameters(kernel.cubin, kernel.entry)
    layout, offset = [], 0
    for _, kind in kernel.parameters:
        size = np.dtype(SCALARS[kind]).itemsize if kind in SCALARS else 8
        offset = -(-offset // size) * size
        layout.append((offset, size))
        offset += size
    return layout


def read_parameters(cubin: bytes, entry: str) -> list[tuple[int, int]]:
    """Return offset and size of every parameter of a kernel, in order."""
    attributes, position, found = read_section(cubin, f".nv.info.{entry}"), 0, {}
    while position < len(attributes):
        kind, attribute, length = struct.unpack_from("<BBH", attributes, position)
        position += 4
        if kind == SIZED:
            if attribute == PARAMETER_INFO:
                _, ordinal, offset, flags = struct.unpack_from("<IHHI", attributes, position)
                found[ordinal] = (offset, flags >> 18)
            position += length
        else:
            assert kind in FIXED, kind
    assert sorted(found) == list(range(len(found)))
    return [found[ordinal] for ordinal in sorted(found)]


def read_section(elf: bytes, name: str) -> bytes:
    """Return the contents of a section of a 64-bit ELF file."""
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    entry_size, n_sections, names_at = struct.unpack_from("<HHH", elf, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", elf, table + i * entry_size) for i in range(n_sections)]
    names = elf[sections[names_at][4] :]
    for label, _, _, _, offset, size in sections:
        if names[label : names.index(b"\0", label)].decode() == name:
            return elf[offset : offset + size]
    raise KeyError(name)
