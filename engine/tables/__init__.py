"""Read tables of profiles in blocks, from files (file_table.py) and data frames (dataframe_table.py)."""

from engine.blocks import BLOCK_ROWS, Block, Table
from engine.tables.file_table import open_table

__all__ = ["BLOCK_ROWS", "Block", "Table", "open_table"]
