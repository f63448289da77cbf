"""Log a run to MLflow as a pyfunc model, with its figures, and load the model back.

    run directory  ->  MLflow model: files of the model, signature, input example  ->  mlflow.pyfunc.load_model

    import engine.mlflow
    engine.mlflow.log_model(run, registered_model_name="rooms")

The model is files that this module loads: no pickle, and no rows of the table. Its extra is `mlflow`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engine.errors import NotExplainedError, UsageError
from engine.run import Run, load

if TYPE_CHECKING:
    import pandas as pd

    from engine.model.model import Model

FILES = ("_SUCCESS", "manifest.json", "clusters.parquet", "model")
METRICS = ("rows", "features", "components", "variance_explained", "clusters", "inertia", "iterations")


def log_model(
    run: Run | str | os.PathLike[str],
    *,
    name: str = "model",
    input_example: Any = None,
    registered_model_name: str | None = None,
    pip_requirements: Sequence[str] | None = None,
) -> Any:
    """Log the model of a run, its figures and its report to the MLflow run that is active, or to a new one.

    Parameters
    ----------
    run : Run or path of a run directory
    name : str, default="model"
        What the model is called in MLflow.
    input_example : pandas.DataFrame, optional
        Rows that are kept with the model, to show what it takes: leave them out if they are of people.
    registered_model_name : str, optional
        Registers the model under this name, as a new version.
    pip_requirements : sequence of str, optional
        What serves the model; by default the engine in this version, and pandas.

    Returns
    -------
    mlflow.models.model.ModelInfo

    Raises
    ------
    UsageError
        If MLflow is not installed.
    ModelNotReadableError
        If the directory is not a complete run.
    """
    with _explain_missing_library():
        import mlflow

    run = run if isinstance(run, Run) else Run(run)
    manifest = run.manifest
    requirements = pip_requirements or [f"rooms-engine=={version('rooms-engine')}", "pandas"]
    with _active_run(mlflow), tempfile.TemporaryDirectory(prefix="rooms-mlflow-") as folder:
        mlflow.log_params({"seed": manifest["seed"], "metric": manifest["metric"], "engine": manifest["engine"]})
        seconds = sum(float(stage["seconds"]) for stage in manifest["stages"])
        mlflow.log_metrics({key: float(manifest[key]) for key in METRICS} | {"seconds": seconds})
        if (run.path / "report.html").is_file():
            mlflow.log_artifact(str(run.path / "report.html"))
        data = Path(folder) / "run"
        data.mkdir()
        for file in FILES:
            copy = shutil.copytree if (run.path / file).is_dir() else shutil.copyfile
            copy(run.path / file, data / file)
        return mlflow.pyfunc.log_model(
            name=name,
            loader_module=__name__,
            data_path=str(data),
            signature=signature(run),
            input_example=input_example,
            registered_model_name=registered_model_name,
            pip_requirements=list(requirements),
        )


def signature(run: Run) -> Any:
    """Return the mlflow.models.ModelSignature of a run's model: the columns of rows, and those of the assignments.

    Columns of floating point are "double", lists of texts "Array(string)", and all others "Any": MLflow would refuse
    whole numbers where one of them is missing, and categories that are numbers. The model itself checks them.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    model, types = run.model, run.manifest["input"]["columns"]
    vectors = {column["column"]: column["vector"] for column in run.manifest["columns"] if column["vector"]}
    names = dict.fromkeys(vectors.get(name, name) for name in model.encoder.columns)  # a vector is one column
    inputs = [_column_spec(name, types.get(name, "")) for name in names]
    if model.id is not None:
        inputs.insert(0, _column_spec(model.id, ""))
    kinds = {"cluster": "integer", "distance": "float", "runner_up": "integer", "margin": "float"}
    kinds |= {"runner_up_odds": "float", "outlier": "boolean"}
    return ModelSignature(Schema(inputs), Schema([ColSpec(kind, name) for name, kind in kinds.items()]))


def _column_spec(name: str, kind: str) -> Any:
    from mlflow.types import ColSpec, DataType
    from mlflow.types.schema import AnyType, Array

    if kind == "double":
        return ColSpec(DataType.double, name)
    return ColSpec(Array(DataType.string) if kind.startswith("list<") and "string" in kind else AnyType(), name)


class ClusterModel:
    """What mlflow.pyfunc calls: `predict` returns the assignments of the rows of a pandas data frame."""

    def __init__(self, model: Model) -> None:
        self.model = model
        try:
            self._with: tuple[str, ...] = ("name",) if model.cluster_names else ()
        except NotExplainedError:  # a run made with --skip explain has no names
            self._with = ()

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return id, cluster, distance, runner_up, margin, runner_up_odds, outlier and, if there are some, the name.

        Raises
        ------
        MissingColumnError, RetypedColumnError, DataError
        """
        assignments = self.model.assign(model_input, with_columns=self._with)
        assert isinstance(assignments, pa.Table)
        frame: pd.DataFrame = assignments.to_pandas()
        return frame


def _load_pyfunc(path: str) -> ClusterModel:
    """Return the model of the files that `log_model` wrote; MLflow calls it by this name."""
    return ClusterModel(load(path))


@contextmanager
def _active_run(mlflow: Any) -> Iterator[None]:
    """Use the MLflow run that is active, or start one that ends with the block."""
    if mlflow.active_run() is not None:
        yield
        return
    with mlflow.start_run():
        yield


@contextmanager
def _explain_missing_library() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UsageError("MLflow is not installed.", hint="pip install 'rooms-engine[mlflow]'") from error
