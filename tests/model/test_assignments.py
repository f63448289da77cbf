"""The id column may not be named like another column of the assignments."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from engine.backends.protocol import TwoNearest
from engine.errors import UsageError
from engine.model.assignments import add_map_columns, assignment_table, check_id_name
from engine.tsne.types import Placement


def test_ids_named_like_any_column_of_the_assignments_are_refused_by_name() -> None:
    nearest = TwoNearest(*(np.zeros(2, kind) for kind in (np.int32, np.float32, np.int32, np.float32)))
    table = assignment_table(
        pa.array(["a", "b"]), "user_id", nearest, np.ones(1, np.float32), None, np.zeros(1, np.int32)
    )
    table = add_map_columns(table, Placement(np.zeros((2, 2), np.float32), np.zeros(2, bool)))
    assert table["runner_up_odds"].null_count == 2  # a model of version 0.1 has none
    names = table.column_names
    assert names == [
        "user_id", "cluster", "distance", "runner_up", "margin", "runner_up_odds", "outlier", "map_x", "map_y",
        "map_doubtful",
    ]  # fmt: skip
    for name in names[1:]:
        with pytest.raises(UsageError, match=f"cannot be named '{name}'"):
            check_id_name(name)
    for name in ("user_id", "row", "Cluster", None):
        check_id_name(name)
