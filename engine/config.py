"""The configuration of a fit: one frozen, validated pydantic model per stage.

A run depends on its input and on this alone. `config.yaml` in a run directory holds all of it, and `--config FILE`
reads it back. Unknown keys are errors.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    model_serializer,
    model_validator,
)

from engine.errors import ConfigError, UsageError
from engine.utils.similar_paths import suggest_path
from engine.utils.units import parse_bytes, parse_share

Role = Literal["numeric", "count", "boolean", "categorical", "multilabel", "date", "ignore"]
Metric = Literal["euclidean", "cosine"]
MAX_K = 1_000_000  # largest k_max
DESCRIBED = "described"  # the group of the columns that only describe the clusters
DEFAULT_K_MAX = 40  # largest number of clusters that is chosen where no k_max is given
NAME_PREVIOUS = "name it as `previous`, or as --previous RUN on the command line"
SkippableStage = Literal["explain", "map", "report"]


class _StageConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Config = TypeVar("Config", bound=_StageConfig)


def _split_text(value: Any) -> Any:
    """Return the parts of a text with commas, and anything else unchanged."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _check_not_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is not a number")
    return value


def _check_count(value: int | str) -> int | str:
    if value != "auto" and int(value) < 1:
        raise ValueError(f"{value} must be at least 1, or auto")
    return value


def _check_components(value: float | str) -> float | str:
    if value != "auto" and not (value >= 1 if isinstance(value, int) else 0.0 < float(value) < 1.0):
        raise ValueError(f"{value} must be a whole number of at least 1, a share between 0 and 1, or auto")
    return value


def _check_name(name: str) -> str:
    if not name.split():
        raise ValueError("a name of a cluster must not be empty")
    return " ".join(name.split())


def _check_namer(namer: Any) -> Any:
    if isinstance(namer, str):  # of a run, it may be "__main__:<lambda>": whether it exists is asked when it is called
        if not all(namer.partition(":")):
            raise ValueError(f"{namer!r} must read module:function")
    elif namer is not None and not callable(namer):
        raise ValueError(f"a {type(namer).__name__} is no function")
    return namer


def function_name(function: Any) -> str:
    """Return module and name of a function, such as "names:by_interest"."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"


CountOrAuto = Annotated[int | Literal["auto"], BeforeValidator(_check_not_boolean), AfterValidator(_check_count)]
ComponentsOrAuto = Annotated[
    int | float | Literal["auto"], BeforeValidator(_check_not_boolean), AfterValidator(_check_components)
]


class GroupConfig(_StageConfig):
    """Columns that share a weight, such as interests or demographics."""

    columns: tuple[str, ...] = ()
    weight: float = Field(default=1.0, ge=0.0)


def _to_mark(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float | date):
        raise ValueError("a mark of missing values must be a number, a date or a text")
    return value.isoformat()[:10] if isinstance(value, date) else str(value)


class FeaturesConfig(_StageConfig):
    """Roles set by hand, groups and their weights, and the day from which dates are counted back.

    `missing` has the values of a column that stand for missing ones; those of other columns are found by the engine.
    With `share_weights`, columns that say one thing share one weight, such as copies in other units. The columns of
    `describe_only`, such as an outcome, are left out of the clusters, and stay in their rules and personas.
    """

    roles: dict[str, Role] = {}
    missing: dict[str, tuple[Annotated[str, BeforeValidator(_to_mark)], ...]] = {}
    groups: dict[str, GroupConfig] = {}
    describe_only: Annotated[tuple[str, ...], BeforeValidator(_split_text)] = ()
    share_weights: bool = True
    reference_day: date | None = None

    @model_validator(mode="after")
    def _check_described_group(self) -> Self:
        if self.describe_only and DESCRIBED in self.groups:
            raise ValueError(f"describe_only makes a group {DESCRIBED!r}: give the group of this name another one")
        return self

    @property
    def column_groups(self) -> dict[str, GroupConfig]:
        """The groups, and the one of weight 0 that the columns of `describe_only` are in."""
        described = {DESCRIBED: GroupConfig(columns=self.describe_only, weight=0.0)} if self.describe_only else {}
        return self.groups | described

    @property
    def reference_day_number(self) -> float | None:
        """The reference day as days since 1970-01-01."""
        return None if self.reference_day is None else float((self.reference_day - date(1970, 1, 1)).days)


class PCAConfig(_StageConfig):
    """Components for K-Means: a number, a share of the variance, or "auto" (all of up to 30 features, else 95 %).

    The algorithm "moments" is the engine's own, "cuml" is cuML's on a GPU; "auto" is cuML's where it can be used.
    """

    n_components: ComponentsOrAuto = "auto"
    algorithm: Literal["auto", "moments", "cuml"] = "auto"


class KMeansConfig(_StageConfig):
    """Parameters of K-Means, as in engine.KMeans; with "auto" clusters, `k_method` chooses from k_min to k_max.

    Without `k_max`, the range ends at 20 and grows to 40 while its end looks best. No cluster has a smaller share of
    the rows than `min_share`: the smallest is dissolved, and K-Means goes on from the others, until all are larger.
    The algorithm "lloyd" is the engine's own, "cuml" is cuML's on a GPU; "auto" is cuML's where it can be used. "fused"
    is "lloyd" by fused kernels of a GPU, to the same bits. With the metric "cosine", directions of rows from the mean
    are clustered, however far they go.
    """

    n_clusters: CountOrAuto = "auto"
    k_method: Literal["valley", "elbow"] = "valley"
    k_min: int = Field(default=1, ge=1)
    k_max: int | None = Field(default=None, ge=1, le=MAX_K)
    min_share: float = Field(default=0.0, ge=0.0, le=0.5)
    metric: Metric = "euclidean"
    n_init: CountOrAuto = "auto"
    max_iter: int = Field(default=300, ge=1)
    tol: float = Field(default=1e-4, ge=0.0)
    algorithm: Literal["auto", "lloyd", "cuml", "fused"] = "auto"

    @property
    def k_range(self) -> range | None:
        """The values of k that may be chosen; None is the range that grows."""
        if self.k_max is None:
            return None if self.k_min == 1 else range(self.k_min, max(self.k_min, DEFAULT_K_MAX) + 1)
        return range(self.k_min, self.k_max + 1)

    @model_validator(mode="after")
    def _check_range(self) -> KMeansConfig:
        if self.metric == "cosine" and self.n_clusters == "auto" and self.k_method == "valley":
            raise ValueError(
                "metric=cosine needs a number of clusters (-k N) or k_method=elbow: directions have valleys between "
                "them in tables without groups, too"
            )
        if self.k_max is not None and self.k_min > self.k_max:
            raise ValueError(f"k_min={self.k_min} must not be greater than k_max={self.k_max}")
        return self


class ExplainConfig(_StageConfig):
    """Rules and personas: the row sample, the precision of rules, the least number of people, and words for columns.

    Every figure is computed from at least `min_people` sampled people: 11 is the smallest cell size that US Medicare's
    rules for releasing data allow. `namer` is a function that names clusters, as "module:function", and may take
    `namer_seconds`; it is told aggregates only.
    """

    sample_rows: int = Field(default=20_000, ge=100)
    rows_per_cluster: int = Field(default=300, ge=10)
    min_precision: float = Field(default=0.9, gt=0.0, le=1.0)
    max_rules: int = Field(default=4, ge=1)
    min_people: int = Field(default=11, ge=1)
    domain: str = Field(default="people", min_length=2)  # what the rows are, in the plural: customers, households, …
    words: dict[str, str] = {}  # column -> its name in sentences
    values: dict[str, dict[str, str]] = {}  # column -> value -> its meaning in sentences
    namer: Annotated[Any, AfterValidator(_check_namer)] = None
    namer_seconds: float = Field(default=60.0, gt=0.0)

    @field_serializer("namer", when_used="json-unless-none")
    def _name_function(self, namer: Any) -> str:
        return namer if isinstance(namer, str) else function_name(namer)


class MapConfig(_StageConfig):
    """The map: the number of landmarks, the least number of them in each cluster, and the parameters of t-SNE.

    All other rows are placed among the landmarks; `place_all` also writes their coordinates into the assignments.
    """

    n_landmarks: int = Field(default=10_000, ge=100)
    rows_per_cluster: int = Field(default=100, ge=1)
    perplexity: float = Field(default=30.0, ge=1.0)
    max_iter: int = Field(default=500, ge=250)
    place_all: bool = False


class ClusterConfig(_StageConfig):
    """Where passes run: in this process, in `workers` processes of this machine, or on workers of a Dask `scheduler`.

    Results do not depend on it. A task takes `task_rows` rows. One that is `overdue_seconds` late is sent to another
    worker as well; after `deadline_seconds` without any result the run ends. A task is attempted `attempts` times.
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
    def _check_exclusive(self) -> ClusterConfig:
        if self.workers is not None and self.scheduler is not None:
            raise ValueError("workers start a cluster and a scheduler names one: give one of them")
        return self

    @property
    def uses_workers(self) -> bool:
        """Whether passes run on workers."""
        return self.workers is not None or self.scheduler is not None


class LineageConfig(_StageConfig):
    """How a fit continues the run `previous`: what it keeps, and what it takes to give clusters up.

    Its encoder and components are kept unless `refit_features`. New clusters take over if their inertia is lower by
    more than the share `takeover`. At most the share `max_moved` of the people who stayed may change their cluster.
    Moves between two clusters that fewer than `min_movers` people made are not told in movers.parquet.
    """

    refit_features: bool = False
    takeover: float = Field(default=0.005, ge=0.0, lt=1.0)
    max_moved: float | None = Field(default=None, ge=0.0, le=1.0)
    min_movers: int = Field(default=11, ge=1)


class GivenName(_StageConfig):
    """A name that `rooms rename` or `explain.namer` gave a cluster, and the engine's own for what it was like then."""

    name: Annotated[str, AfterValidator(_check_name)]
    instead_of: str
    by: Literal["rename", "namer"] = "rename"


def _parse_limit(value: Any) -> Any:
    try:
        return parse_share(value) if isinstance(value, str) else value
    except UsageError as error:
        raise ValueError("it must be a share, such as 5% or 0.05, or null") from error


def _to_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


# A share or a distance; null leaves the check out.
Limit = Annotated[float | None, Field(ge=0.0, le=1.0), BeforeValidator(_parse_limit)]
Names = Annotated[tuple[str, ...], BeforeValidator(_to_list)]  # a text is a list of one


class ColumnLimits(_StageConfig):
    """How far a column may differ from the earlier table, beyond what its sample of rows does by chance.

    `psi` is the population stability index, `js` the Jensen-Shannon distance (0 to 1); `new_categories` and `outside`
    are shares of the rows with a category that was rare or unknown, or a number beyond nearly all earlier ones;
    `missing` is the change of the share of missing values. null leaves a check out.
    """

    psi: Annotated[float | None, Field(ge=0.0)] = 0.015
    js: Limit = 0.055
    new_categories: Limit = 0.02
    missing: Limit = 0.02
    outside: Limit = 0.05


class OwnLimits(ColumnLimits):
    """Limits that a column has instead of those of the others: the ones that are given."""

    @model_serializer(mode="wrap")
    def _keep_given(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if name in self.model_fields_set}


class ScoringLimits(ColumnLimits):
    """The limits of rows that a model assigns. They need not be like those of the fit, so only what is broken counts.

    `columns` has limits for single columns, which win over the others; columns in `ignore` are not checked.
    """

    psi: Annotated[float | None, Field(ge=0.0)] = None
    js: Limit = 0.5
    new_categories: Limit = 0.2
    missing: Limit = 0.2
    columns: dict[str, OwnLimits] = {}
    ignore: Names = ()
    implied_by_file: ClassVar[dict[str, Any]] = {}  # what a gate file sets that does not say otherwise

    def of(self, column: str) -> ColumnLimits:
        """Return the limits of a column."""
        limits = {name: getattr(self, name) for name in ColumnLimits.model_fields}
        own = self.columns.get(column)
        return ColumnLimits(**limits | ({} if own is None else own.model_dump()))

    @classmethod
    def read(cls, path: Path | None) -> Self:
        """Read a YAML file of limits, or return the defaults; raises ConfigError, which names every fault."""
        raw = {} if path is None else cls.implied_by_file | _read_yaml(path, "The gate file")
        return _validate(cls, raw, f"The gate file {path}")


class GateConfig(ScoringLimits):
    """The gate of a fit that continues a run, and of a comparison: limits, and whether a run beyond them is stopped.

    `rows` bounds how many times as many or as few rows there are as in the earlier run: an export that was cut off is
    stopped. `size` bounds the change of a cluster's share of everybody in points, and `size_ratio` its ratio.
    `common` is the least share of the smaller run's people who are in both. `moved` bounds the share of people whose
    cluster is another one, `outliers` the change of the share of outliers, and `deaths` counts clusters that no longer
    exist. Dates may be up to `date_days` later than in the earlier table. A column like that of one of the runs `also`
    is no finding.
    """

    psi: Annotated[float | None, Field(ge=0.0)] = 0.015
    js: Limit = 0.055
    new_categories: Limit = 0.02
    missing: Limit = 0.02
    date_days: int = Field(default=31, ge=0, le=366)
    rows: Annotated[float | None, Field(ge=1.0)] = 2.0
    size: Limit = 0.05
    size_ratio: Annotated[float | None, Field(ge=1.0)] = 2.0
    common: Limit = 0.01
    moved: Limit = 0.1
    outliers: Limit = 0.02
    deaths: Annotated[int | None, Field(ge=0)] = 0
    also: Names = ()
    stop: bool = False
    implied_by_file: ClassVar[dict[str, Any]] = {"stop": True}


def _parse_optional_bytes(size: Any) -> int | None:
    return None if size is None else parse_bytes(size)


class FitConfig(_StageConfig):
    """Settings of all stages of a fit, and the stages to skip.

    A `reproducible` fit has the same bits on every device, so no stage is computed by cuML.
    """

    id: str | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    reproducible: bool = False
    memory: Annotated[int | None, BeforeValidator(_parse_optional_bytes)] = (
        None  # of anonymous memory; changes no result
    )
    features: FeaturesConfig = FeaturesConfig()
    pca: PCAConfig = PCAConfig()
    kmeans: KMeansConfig = KMeansConfig()
    explain: ExplainConfig = ExplainConfig()
    map: MapConfig = MapConfig()
    cluster: ClusterConfig = ClusterConfig()
    previous: str | None = None
    lineage: LineageConfig = LineageConfig()
    gate: GateConfig = GateConfig()
    names: dict[int, Annotated[str, AfterValidator(_check_name)]] = {}  # number of a cluster -> its name
    renamed: dict[int, GivenName] = {}  # number of a cluster -> its given name; it goes from run to run
    skip: Annotated[tuple[SkippableStage, ...], BeforeValidator(_split_text)] = ()

    @model_validator(mode="after")
    def _check_previous(self) -> FitConfig:
        if self.previous is None and (self.lineage.max_moved is not None or self.lineage.refit_features):
            raise ValueError(f"max_moved and refit_features say how a run is continued: {NAME_PREVIOUS}")
        if self.previous is None and self.gate.stop:
            raise ValueError(f"the gate compares with the run that is continued: {NAME_PREVIOUS}")
        return self

    @model_validator(mode="after")
    def _check_namer(self) -> FitConfig:
        if self.explain.namer is not None and "explain" in self.skip:
            raise ValueError("explain.namer names what the explanation describes, which skip leaves out")
        return self

    @model_validator(mode="after")
    def _check_reproducible(self) -> FitConfig:
        named = [name for name in ("pca", "kmeans") if getattr(self, name).algorithm == "cuml"]
        if self.reproducible and named:
            raise ValueError(
                f"{named[0]}.algorithm=cuml does not give the same bits every time: it is not reproducible"
            )
        return self

    @classmethod
    def read(cls, path: Path | None, *, gate_file: Path | None = None, **changes: Any) -> FitConfig:
        """Read a YAML file, or start from the defaults, and set the limits of a gate file and `changes`, by stage.

        A gate file turns the gate on, unless it says `stop: false`.

        Raises
        ------
        ConfigError
            If the file is missing, is not YAML, or is not valid; names every fault with its key.
        """
        raw = {} if path is None else _read_yaml(path, "The configuration")
        if gate_file is not None:
            given = GateConfig.read(gate_file).model_dump(exclude_unset=True)
            raw["gate"] = (raw["gate"] if isinstance(raw.get("gate"), dict) else {}) | given
        return cls.merge(raw, where="The configuration" if path is None else f"The configuration {path}", **changes)

    @classmethod
    def merge(cls, base: dict[str, Any], *, where: str = "The configuration", **changes: Any) -> FitConfig:
        """Set `changes` in `base`, except those that are None, and validate; raises ConfigError."""
        return _validate(cls, _merge(base, changes), where)

    def to_yaml(self) -> str:
        """Return the configuration as YAML that `read` takes."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def _read_yaml(path: Path, what: str) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; raises ConfigError."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{what} {path} cannot be read: {error.strerror}.", hint=suggest_path(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} {path} is not text in UTF-8.") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: of a date that there is not
        raise ConfigError(f"{what} {path} is not YAML: {str(error).splitlines()[0]}.") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{what} {path} must be a mapping.")
    return raw


def _validate(kind: type[Config], raw: dict[str, Any], where: str) -> Config:
    """Return the settings that a mapping holds; raises ConfigError, which names every fault with its key."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        faults = "; ".join(
            ": ".join(filter(None, (".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, "))))
            for e in error.errors()
        )
        raise ConfigError(f"{where} is not valid: {faults}.") from error


def algorithm_settings(algorithm: str | None) -> dict[str, dict[str, str]]:
    """Return the settings of the stages that `--algorithm` chooses; None chooses nothing.

    Raises
    ------
    UsageError
        If it is none of auto, lloyd, cuml and fused.
    """
    if algorithm is None:
        return {"pca": {}, "kmeans": {}}
    of_pca = {"auto": "auto", "lloyd": "moments", "cuml": "cuml", "fused": "moments"}
    if algorithm not in of_pca:
        raise UsageError(f"algorithm={algorithm!r} is not one of {', '.join(of_pca)}.")
    return {"pca": {"algorithm": of_pca[algorithm]}, "kmeans": {"algorithm": algorithm}}


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, dict):
            nested = merged.get(key)
            merged[key] = _merge(nested if isinstance(nested, dict) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged
