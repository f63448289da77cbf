"""RAPIDS without a GPU: modules whose calls are bound to the recorded signatures and which compute something small."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.gpu.contract import ATTRIBUTES, recorded, signature_of
from tests.gpu.strict import StrictModule, bare, wrapped

GIB = 1 << 30


class Bound:
    """Base of stand-ins for a class: arguments of every call must fit its recorded signatures."""

    path = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        bind(self.path, *args, **kwargs)
        self.given = kwargs

    def called(self, method: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return bind(f"{self.path}.{method}", *args, **kwargs)

    def fitted(self, **attributes: Any) -> None:
        unknown = set(attributes) - set(ATTRIBUTES[self.path])
        assert not unknown, f"{self.path} has no {unknown}"
        self.__dict__ |= attributes


def bind(path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    bound = signature_of(recorded()["signatures"][path]).bind(*args, **kwargs)
    return dict(bound.arguments)


class KMeans(Bound):
    path = "cuml.cluster.KMeans"

    def fit(self, *args: Any, **kwargs: Any) -> KMeans:
        given = self.called("fit", *args, **kwargs)
        X = np.asarray(bare(given["X"]))
        start, k = self.given["init"], self.given["n_clusters"]
        self.fitted(cluster_centers_=X[:k] if isinstance(start, str) else bare(start).copy(), n_iter_=3)
        return self


class TSNE(Bound):
    path = "cuml.manifold.TSNE"
    last: Any = None

    def fit_transform(self, *args: Any, **kwargs: Any) -> Any:
        given = self.called("fit_transform", *args, **kwargs)
        TSNE.last = self.given | given
        self.fitted(n_iter_=self.given["max_iter"])
        return wrapped(np.asfortranarray(bare(given["X"])[:, :2] * 3 + 5))


def install(monkeypatch: pytest.MonkeyPatch, *, free: int = 8 * GIB, xp: Any = None) -> dict[str, Any]:
    """Put the stand-ins where `import` finds them; return what the pool of memory was told."""
    told: dict[str, Any] = {}
    cupy: Any = StrictModule() if xp is None else xp
    runtime = SimpleNamespace(memGetInfo=lambda: (free, 2 * free))
    from tests.gpu.streams import Cuda, empty_pinned  # which binds calls as this module does

    cupy.__dict__["cuda"] = Cuda().namespace(
        runtime=runtime, set_allocator=lambda *args: told.update(bind("cupy.cuda.set_allocator", *args))
    )
    pinned: Any = ModuleType("cupyx")
    pinned.empty_pinned = empty_pinned

    class CudaMemoryResource:
        pass

    rmm: Any = ModuleType("rmm")
    rmm.mr = SimpleNamespace(
        CudaMemoryResource=CudaMemoryResource, get_current_device_resource=lambda: CudaMemoryResource()
    )
    rmm.reinitialize = lambda *args, **kwargs: told.update(bind("rmm.reinitialize", *args, **kwargs))
    rmm.statistics = SimpleNamespace(
        enable_statistics=lambda: None, get_statistics=lambda: SimpleNamespace(current_bytes=GIB)
    )
    allocators: Any = ModuleType("rmm.allocators.cupy")
    allocators.rmm_cupy_allocator = "RMM's allocator"
    cluster: Any = ModuleType("cuml.cluster")
    cluster.KMeans = KMeans
    manifold: Any = ModuleType("cuml.manifold")
    manifold.TSNE = TSNE
    modules = {"cupy": cupy, "cupyx": pinned, "rmm": rmm, "rmm.allocators.cupy": allocators, "cuml": ModuleType("cuml")}
    modules |= {"cuml.cluster": cluster, "cuml.manifold": manifold}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return told
