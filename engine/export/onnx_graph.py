"""Write a model as an ONNX graph in double precision.

    EncodingPlan, schema, projection, centers  ->  onnx.ModelProto: one input a column  ->  the number of the cluster

Inputs (n_rows is free): numbers, truths and numeric categories are double (n_rows,), NaN where missing; dates are days
since 1970-01-01 in UTC, with the time of the day as a fraction; categories are strings (n_rows,), MISSING_TEXT where
missing; several labels are strings (n_rows, any), padded with empty ones, MISSING_TEXT alone where no list is;
vectors are double (n_rows, length). The columns of X that are 0 or 1 are not computed: a category looks up its row of
coefficients, of the scores of clusters or, with metric "cosine", of components. `inputs_of` makes those of a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.backends.protocol import Projection
from engine.errors import UsageError
from engine.export.sql_encoder import plan_width
from engine.features.columnar_block import MISSING_CODE, ColumnarBlock, RaggedLabels
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import DAYS_PER_YEAR, CategoryPlan, LabelPlan, NumberPlan
from engine.tables.vector_columns import POSITION, vector_name
from engine.utils.array_types import Float64s

MISSING_TEXT = "<missing>"
OUTPUT = "cluster"
OPSET, ML_OPSET, IR_VERSION = 18, 2, 8  # read by onnxruntime from 1.14 on
Array = NDArray[Any]


def to_onnx(
    encoder: FeatureEncoder,
    schema: pa.Schema,
    projection: Projection,
    centers: NDArray[np.float32],
    numbers: NDArray[np.int32],
) -> Any:
    """Return the onnx.ModelProto.

    Raises
    ------
    UsageError
        If onnx is not installed, or a category or label is named like the mark of a missing one.
    """
    try:
        import onnx
    except ImportError as error:
        raise UsageError("An export to ONNX needs onnx.", hint="install rooms-engine[onnx].") from error
    graph = GraphWriter(onnx, encoder, schema, projection, centers.astype(np.float64))
    graph.write_encoder()
    graph.write_clusters(numbers)
    return graph.model()


class GraphWriter:
    """Collects inputs, nodes and constants of a graph."""

    def __init__(
        self, onnx: Any, encoder: FeatureEncoder, schema: pa.Schema, projection: Projection, centers: Float64s
    ) -> None:
        self.onnx, self.encoder, self.schema, self.centers = onnx, encoder, schema, centers
        self.projection = projection
        self.inputs: dict[str, Any] = {}
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.sums: list[str] = []  # tensors (n_rows, n_outputs) that are added up

    def write_encoder(self) -> None:
        """Write what every column adds to the scores of clusters or to components."""
        dense, hot = iter(self._coefficients(self.projection.dense_axes)), self._coefficients(self.projection.hot_axes)
        numbers: list[tuple[NumberPlan, Float64s, Float64s]] = []
        first = 0
        for plan in self.encoder.plan.columns:
            table = hot[first : first + plan_width(plan).hot]
            first += len(table)
            if isinstance(plan, NumberPlan):
                numbers.append((plan, next(dense), table[0] if plan.indicator else np.zeros(hot.shape[1])))
            elif isinstance(plan, LabelPlan):
                self._write_labels(plan, table)
            elif pa.types.is_string(self.schema.field(plan.column).type):
                self._write_category(plan, table)
            else:
                self._write_number_category(plan, table)
        if numbers:
            self._write_numbers(numbers)

    def _coefficients(self, axes: Float64s) -> Float64s:
        """Return axes (n_columns, n_components) with the centers folded in, unless directions are compared."""
        axes = axes[..., : self.projection.n_components]
        return axes @ self.centers.T if self.projection.shortest is None else axes

    def _write_numbers(self, columns: list[tuple[NumberPlan, Float64s, Float64s]]) -> None:
        plans = [plan for plan, _, _ in columns]
        given = self._node("Concat", *(self._column(self._number(plan)) for plan in plans), axis=1)
        missing = self._node("Or", self._node("IsNaN", given), self._node("IsInf", given))
        is_date = np.array([plan.role == "date" for plan in plans])
        years = self._node("Sub", self._row(np.where(is_date, self.encoder.plan.reference_day, 0.0)), given)
        values = self._node("Div", years, self._row(np.where(is_date, DAYS_PER_YEAR, -1.0)))
        fills = self._row(np.array([plan.fill for plan in plans]))
        values = self._node("Where", missing, fills, values)
        logarithms = np.array([plan.logarithm for plan in plans])
        if logarithms.any():
            one_more = self._node("Add", self._node("Max", values, self._row(np.zeros(1))), self._row(np.ones(1)))
            values = self._node("Where", self._row(logarithms), self._node("Log", one_more), values)
        _, low, high, centre, scale, _ = self.encoder.layout.number_arguments
        values = self._node("Min", self._node("Max", values, self._row(low)), self._row(high))
        values = self._node("Mul", self._node("Sub", values, self._row(centre)), self._row(scale))
        self.sums.append(self._node("MatMul", values, self._constant(np.stack([a for _, a, _ in columns]))))
        of_missing = np.stack([table for _, _, table in columns])
        if of_missing.any():
            self.sums.append(self._node("MatMul", self._double(missing), self._constant(of_missing)))

    def _number(self, plan: NumberPlan | CategoryPlan) -> str:
        """Return the tensor (n_rows,) of a number, NaN where it has a mark of a missing value."""
        field = self.schema.field(plan.column)
        source = vector_name(field)
        if source is None:
            value = self._input(plan.column, self.onnx.TensorProto.DOUBLE, ())
        else:
            vector = self._input(source, self.onnx.TensorProto.DOUBLE, (None,))
            value = self._node("Gather", vector, self._constant(np.array(int(field.metadata[POSITION]))), axis=1)
        compared = self._node("Floor", value) if plan.role == "date" and plan.missing else value
        for mark in plan.missing:
            number = mark if isinstance(mark, float) else category_number(mark, field.type)
            is_mark = self._node("Equal", compared, self._constant(np.array(number)))
            value = self._node("Where", is_mark, self._constant(np.array(np.nan)), value)
        return value

    def _write_category(self, plan: CategoryPlan, table: Float64s) -> None:
        text = self._input(plan.column, self.onnx.TensorProto.STRING, ())
        n = len(plan.categories)
        missing = n + 1 if plan.indicator else 0  # the last row, or that of the most frequent category
        codes = {name: code for code, name in enumerate(plan.categories)} | dict.fromkeys(plan.missing, missing)
        code = self._codes(plan.column, text, codes, missing, other=n)
        self.sums.append(self._node("Gather", self._constant(table), code, axis=0))

    def _write_number_category(self, plan: CategoryPlan, table: Float64s) -> None:
        kind, n = self.schema.field(plan.column).type, len(plan.categories)
        value = self._column(self._number(plan))
        numbers = np.array([category_number(text, kind) for text in plan.categories])
        known = self._double(self._node("Equal", value, self._row(numbers)))
        missing = self._double(self._node("IsNaN", value))
        seen = self._node("ReduceSum", self._node("Concat", known, missing, axis=1), self._constant(np.array([1])))
        other = self._node("Sub", self._row(np.ones(1)), seen)
        hot = self._node("Concat", known, other, missing, axis=1)
        rows = np.concatenate([table[: n + 1], table[n + 1 :] if plan.indicator else table[:1]])
        self.sums.append(self._node("MatMul", hot, self._constant(rows)))

    def _write_labels(self, plan: LabelPlan, table: Float64s) -> None:
        texts = self._input(plan.column, self.onnx.TensorProto.STRING, (None,))
        n = len(plan.labels)
        missing, none = n + 1, n + 2
        codes = {name: code for code, name in enumerate(plan.labels)} | {"": none}
        code = self._codes(plan.column, texts, codes, missing, other=n)
        ends = self._constant(np.array([0.0, 1.0], np.float32))
        hot = self._node("OneHot", code, self._constant(np.array(n + 3)), ends, axis=-1)
        has = self._node("ReduceMax", hot, self._constant(np.array([1])), keepdims=0)
        rows = np.zeros((n + 3, table.shape[1]))
        rows[: len(table)] = table
        self.sums.append(self._node("MatMul", self._double(has), self._constant(rows)))

    def _codes(self, column: str, texts: str, codes: dict[str, int], missing: int, *, other: int) -> str:
        """Return the codes of texts: of known ones, of missing ones, and of others."""
        if MISSING_TEXT in codes:
            raise UsageError(
                f"Column {column!r} has the text {MISSING_TEXT!r}, which stands for a missing one in ONNX."
            )
        codes = codes | {MISSING_TEXT: missing}
        return self._node(
            "LabelEncoder", texts, domain="ai.onnx.ml", keys_strings=list(codes), values_int64s=list(codes.values()),
            default_int64=other,
        )  # fmt: skip

    def write_clusters(self, numbers: NDArray[np.int32]) -> None:
        """Write the nearest center, the first of those that are equally near, and its number."""
        halves = np.square(self.centers).sum(axis=1) / 2.0
        base = self._coefficients(self.projection.base[None, :])
        total = self._row(base if self.projection.shortest is not None else base - halves)
        for part in self.sums:
            total = self._node("Add", total, part)
        if self.projection.shortest is not None:
            squares = self._node("ReduceSum", self._node("Mul", total, total), self._constant(np.array([1])))
            length = self._node("Sqrt", squares)
            has_direction = self._node(
                "Not", self._node("Less", length, self._row(np.array([self.projection.shortest])))
            )
            divided = self._node("Div", total, self._node("Where", has_direction, length, self._row(np.ones(1))))
            direction = self._node("Mul", divided, self._double(has_direction))
            products = self._node("MatMul", direction, self._constant(np.ascontiguousarray(self.centers.T)))
            total = self._node("Sub", products, self._row(halves))
        label = self._node("ArgMax", total, axis=1, keepdims=0, select_last_index=0)
        self._node("Gather", self._constant(numbers.astype(np.int64)), label, axis=0, output=OUTPUT)

    def model(self) -> Any:
        """Return the model, which has been checked."""
        helper = self.onnx.helper
        output = helper.make_tensor_value_info(OUTPUT, self.onnx.TensorProto.INT64, ["n_rows"])
        graph = helper.make_graph(self.nodes, "rooms", list(self.inputs.values()), [output], self.constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="rooms engine", ir_version=IR_VERSION)
        self.onnx.checker.check_model(model)
        return model

    def _input(self, name: str, kind: int, more: tuple[None, ...]) -> str:
        if name == OUTPUT:
            raise UsageError(f"A column is named {OUTPUT!r}, as the output of a graph.", hint="rename the column.")
        if name not in self.inputs:
            shape = ["n_rows", *(f"{name} length" for _ in more)]
            self.inputs[name] = self.onnx.helper.make_tensor_value_info(name, kind, shape)
        return name

    def _node(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"rooms/{operator}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def _constant(self, values: Array) -> str:
        name = f"rooms/constant_{len(self.constants)}"
        self.constants.append(
            self.onnx.numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name)
        )
        return name

    def _row(self, values: Array) -> str:
        return self._constant(values.reshape(1, -1))

    def _column(self, tensor: str) -> str:
        return self._node("Unsqueeze", tensor, self._constant(np.array([1])))

    def _double(self, tensor: str) -> str:
        return self._node("Cast", tensor, to=self.onnx.TensorProto.DOUBLE)


def category_number(text: str, kind: pa.DataType) -> float:
    """Return the number of a category of a column of numbers or truths."""
    if pa.types.is_boolean(kind):
        return float(text == "true")
    return float(np.float64(text) if not pa.types.is_floating(kind) or pa.types.is_float64(kind) else np.float32(text))


def inputs_of(block: ColumnarBlock, encoder: FeatureEncoder, schema: pa.Schema) -> dict[str, Array]:
    """Return the inputs of a graph for a block that the encoder has read."""
    inputs: dict[str, Array] = {}
    vectors: dict[str, dict[int, Array]] = {}
    for plan in encoder.plan.columns:
        field = schema.field(plan.column)
        source = vector_name(field)
        if isinstance(plan, LabelPlan):
            inputs[plan.column] = _padded(block.labels[plan.column])
        elif isinstance(plan, CategoryPlan):
            row = block.text_rows[plan.column]
            inputs[plan.column] = _category_input(block.codes[row], block.names[row] or [], field.type)
        else:
            values = block.numbers[block.number_rows[plan.column]]
            if source is None:
                inputs[plan.column] = values
            else:
                vectors.setdefault(source, {})[int(field.metadata[POSITION])] = values
    for source, elements in vectors.items():
        inputs[source] = np.full((block.n_rows, max(elements) + 1), np.nan)
        for position, values in elements.items():
            inputs[source][:, position] = values
    return inputs


def _category_input(codes: NDArray[np.int32], names: list[str], kind: pa.DataType) -> Array:
    """Return texts, or numbers if the column holds such; MISSING_CODE is -1, so it takes the last."""
    assert MISSING_CODE == -1
    if pa.types.is_string(kind):
        return np.array([*names, MISSING_TEXT], object)[codes]
    return np.array([*(category_number(name, kind) for name in names), np.nan])[codes]


def _padded(labels: RaggedLabels) -> Array:
    """Return labels as texts (n_rows, the longest list), padded with empty ones."""
    lengths = np.diff(labels.offsets)
    padded = np.full((len(lengths), max(int(lengths.max(initial=0)), 1)), "", object)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    positions = np.arange(len(rows)) - np.repeat(labels.offsets[:-1], lengths)
    padded[rows, positions] = np.array([*(labels.names or []), ""], object)[labels.codes]
    padded[labels.missing, 0] = MISSING_TEXT
    return padded
