"""rooms engine: a table of user profiles goes in; explained, reproducible clusters of those users come out.

This module holds the public names, each imported when it is first used, so that `import engine` is quick. The folders:

    tables -> features -> pca -> kmeans -> tsne -> model -> explain -> report: data, in the order of a fit
    pipeline calls them; backends + kernels compute a block
    execution says where blocks run
    cli, bench, comparison, accel and mlflow stand on top
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.comparison.compare import compare as compare
    from engine.config import FitConfig as FitConfig
    from engine.features.estimator import FeatureEncoder as FeatureEncoder
    from engine.kmeans.estimator import KMeans as KMeans
    from engine.kmeans.select_k import choose_k as choose_k
    from engine.pca.estimator import PCA as PCA
    from engine.pipeline.fit import fit as fit
    from engine.ratings.build import profiles_from_ratings as profiles_from_ratings
    from engine.run import Run as Run
    from engine.run import load as load
    from engine.run import similar as similar
    from engine.tables.databases.query import Query as Query
    from engine.tables.databases.table import DatabaseTable as DatabaseTable
    from engine.tsne.estimator import TSNE as TSNE

_MODULES = {
    "DatabaseTable": "engine.tables.databases.table",
    "FeatureEncoder": "engine.features.estimator",
    "FitConfig": "engine.config",
    "KMeans": "engine.kmeans.estimator",
    "PCA": "engine.pca.estimator",
    "Query": "engine.tables.databases.query",
    "Run": "engine.run",
    "TSNE": "engine.tsne.estimator",
    "choose_k": "engine.kmeans.select_k",
    "compare": "engine.comparison.compare",
    "fit": "engine.pipeline.fit",
    "load": "engine.run",
    "profiles_from_ratings": "engine.ratings.build",
    "similar": "engine.run",
}

__all__ = [
    "PCA",
    "TSNE",
    "DatabaseTable",
    "FeatureEncoder",
    "FitConfig",
    "KMeans",
    "Query",
    "Run",
    "choose_k",
    "compare",
    "fit",
    "load",
    "profiles_from_ratings",
    "similar",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("rooms-engine")
    if name not in _MODULES:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
