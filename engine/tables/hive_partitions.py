"""Read columns out of the names of folders: plan=basic/part-0.parquet has plan = basic.

paths below a folder  ->  values of each column, pyarrow's partitioning
"""

from __future__ import annotations

import re
from itertools import chain
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds

from engine.tables.source_paths import SourceFiles

_LEADING_ZERO, _INTEGER = re.compile(r"0\d+"), re.compile(r"0|-?[1-9]\d{0,8}|__HIVE_DEFAULT_PARTITION__")


def partition_texts(files: SourceFiles) -> dict[str, set[str]]:
    """Return the values that folder names give to each partition column, as they are written."""
    texts: dict[str, set[str]] = {}
    folders = chain.from_iterable(path[len(files.root) :].split("/")[:-1] for path in files.paths)
    for name, equals, text in (folder.partition("=") for folder in folders):
        if equals:
            texts.setdefault(unquote(name), set()).add(text)
    return texts


def find_partitioning(files: SourceFiles) -> ds.Partitioning | ds.PartitioningFactory:
    """Return the partitioning by folder names; integers with leading zeros, such as zip codes, stay texts."""
    texts = partition_texts(files)
    if not any(_LEADING_ZERO.fullmatch(text) for values in texts.values() for text in values):
        return ds.partitioning(flavor="hive")
    kinds = {
        name: pa.int32() if all(map(_INTEGER.fullmatch, values)) else pa.string() for name, values in texts.items()
    }
    return ds.partitioning(pa.schema(kinds), flavor="hive")
