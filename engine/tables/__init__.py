"""Sources of profiles: files (arrow.py), data frames (frames.py), ratings, and the generated demo members."""

from engine.tables.arrow import open_table
from engine.tables.block import BLOCK_ROWS, Block, Table

__all__ = ["BLOCK_ROWS", "Block", "Table", "open_table"]
