"""One frozen, validated model per stage: everything a run depends on besides its input.

`config.yaml` in a run directory is this, whole; `--config FILE` reads it back. Unknown keys are errors.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from engine.errors import ConfigError
from engine.utils.units import bytes_of

Role = Literal["numeric", "count", "boolean", "categorical", "multilabel", "date", "ignore"]
Skippable = Literal["explain", "map", "report"]


class _Stage(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GroupConfig(_Stage):
    """Columns that share a weight, such as interests or demographics."""

    columns: tuple[str, ...] = ()
    weight: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)


class FeaturesConfig(_Stage):
    """Roles set by hand, groups and their weights, and the day that dates are counted back from."""

    roles: dict[str, Role] = {}
    groups: dict[str, GroupConfig] = {}
    reference_day: date | None = None

    @property
    def reference_day_number(self) -> float | None:
        """The reference day as days since 1970-01-01."""
        return None if self.reference_day is None else float((self.reference_day - date(1970, 1, 1)).days)


class PCAConfig(_Stage):
    """How many components K-Means sees: a number, a share of variance, or "auto" (above the noise edge)."""

    n_components: int | float | Literal["auto"] = "auto"


class KMeansConfig(_Stage):
    """Clusters, when to stop, and whose algorithm, as in engine.KMeans; "auto" sweeps k from k_min to k_max."""

    n_clusters: int | Literal["auto"] = "auto"
    k_min: int = Field(default=1, ge=1)
    k_max: int = Field(default=20, ge=2)
    n_init: int | Literal["auto"] = "auto"
    max_iter: int = Field(default=300, ge=1)
    tol: float = Field(default=1e-4, ge=0.0)
    algorithm: Literal["lloyd", "cuml"] = "lloyd"


class ExplainConfig(_Stage):
    """Rules and personas: the rows they are learnt on, how precise rules must be, whom not to show, and words.

    A figure has at least `min_people` sampled people behind it: 11 is the smallest cell that US Medicare's rules for
    releasing data let out.
    """

    sample_rows: int = Field(default=20_000, ge=100)
    rows_per_cluster: int = Field(default=300, ge=10)
    min_precision: float = Field(default=0.9, gt=0.0, le=1.0)
    max_rules: int = Field(default=4, ge=1)
    min_people: int = Field(default=11, ge=1)
    words: dict[str, str] = {}  # column -> what people call it
    values: dict[str, dict[str, str]] = {}  # column -> value -> what it means


class MapConfig(_Stage):
    """The map: how many rows t-SNE sees, what each cluster gets of them at least, and how long it runs.

    Every other row is placed among them; `place_all` also writes all places into the assignments.
    """

    n_landmarks: int = Field(default=10_000, ge=100)
    rows_per_cluster: int = Field(default=100, ge=1)
    perplexity: float = Field(default=30.0, ge=1.0)
    max_iter: int = Field(default=500, ge=250)
    place_all: bool = False


class ClusterConfig(_Stage):
    """Who computes: this process, `workers` processes of this machine, or the workers of a Dask `scheduler`.

    What comes out does not depend on it. A task takes `task_rows` rows. One that is `overdue_seconds` late is given to
    another worker, too; without any result for `deadline_seconds` the run ends. A part may fail `attempts` times.
    """

    workers: int | None = Field(default=None, ge=1)
    scheduler: str | None = Field(default=None, pattern=r"^(tcp|tls)://")
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    task_rows: int = Field(default=1 << 20, ge=1)
    overdue_seconds: float = Field(default=60.0, gt=0.0)
    deadline_seconds: float = Field(default=1800.0, gt=0.0)
    attempts: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _one_of_them(self) -> ClusterConfig:
        if self.workers is not None and self.scheduler is not None:
            raise ValueError("workers start a cluster and a scheduler names one: give one of them")
        return self

    @property
    def wanted(self) -> bool:
        """Whether passes run on workers."""
        return self.workers is not None or self.scheduler is not None


def _bytes(size: Any) -> int | None:
    return None if size is None else bytes_of(size)


class FitConfig(_Stage):
    """All stages of a fit, and those of them to skip."""

    id: str | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    memory: Annotated[int | None, BeforeValidator(_bytes)] = None  # that a fit may take of its own; decides no result
    features: FeaturesConfig = FeaturesConfig()
    pca: PCAConfig = PCAConfig()
    kmeans: KMeansConfig = KMeansConfig()
    explain: ExplainConfig = ExplainConfig()
    map: MapConfig = MapConfig()
    cluster: ClusterConfig = ClusterConfig()
    previous: str | None = None
    skip: tuple[Skippable, ...] = ()

    @classmethod
    def read(cls, path: Path | None, **changes: Any) -> FitConfig:
        """Read a YAML file (or start from the defaults) and set what `changes` says, nested by stage.

        Raises
        ------
        ConfigError
            If the file is not there, is not YAML, or does not validate; each fault with its place.
        """
        raw: Any = {}
        if path is not None:
            try:
                raw = yaml.safe_load(path.read_text()) or {}
            except OSError as error:
                raise ConfigError(f"The configuration {path} cannot be read: {error.strerror}.") from error
            except yaml.YAMLError as error:
                raise ConfigError(f"The configuration {path} is not YAML: {str(error).splitlines()[0]}.") from error
            if not isinstance(raw, dict):
                raise ConfigError(f"The configuration {path} must be a mapping of stages.")
        return cls.merged(raw, where="The configuration" if path is None else f"The configuration {path}", **changes)

    @classmethod
    def merged(cls, base: dict[str, Any], *, where: str = "The configuration", **changes: Any) -> FitConfig:
        """Set what `changes` says (None changes nothing) over `base`, and validate; raises ConfigError."""
        try:
            return cls.model_validate(_merged(base, changes))
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ConfigError(f"{where} is not valid: {faults}.") from error

    def to_yaml(self) -> str:
        """Return the configuration as YAML that `read` takes."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, dict):
            below = merged.get(key)
            merged[key] = _merged(below if isinstance(below, dict) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged
