"""The modules that workers of a fit need; the fork server imports them once for all workers."""

WORKER_MODULES = (
    "engine.pipeline.fit",
    "engine.model.model",
    "engine.kmeans.distributed",
    "engine.kernels.cpu.hashing.string_hash",
    "fsspec.implementations.local",
)
