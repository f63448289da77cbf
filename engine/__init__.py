"""rooms engine: a table of user profiles goes in; explained, reproducible clusters of those users come out.

The public names, and nothing else. They are imported when first used, so that `import engine` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.cluster import KMeans as KMeans
    from engine.comparison import compare as compare
    from engine.decomposition import PCA as PCA
    from engine.manifold import TSNE as TSNE
    from engine.pipeline import fit as fit
    from engine.runs import Run as Run
    from engine.runs import load as load
    from engine.selection import choose_k as choose_k
    from engine.tables.ratings import profiles_from_ratings as profiles_from_ratings

_HOMES = {
    "KMeans": "engine.cluster",
    "PCA": "engine.decomposition",
    "Run": "engine.runs",
    "TSNE": "engine.manifold",
    "choose_k": "engine.selection",
    "compare": "engine.comparison",
    "fit": "engine.pipeline",
    "load": "engine.runs",
    "profiles_from_ratings": "engine.tables.ratings",
}

__all__ = ["PCA", "TSNE", "KMeans", "Run", "choose_k", "compare", "fit", "load", "profiles_from_ratings"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("rooms-engine")
    if name not in _HOMES:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
