"""Record the signatures of the GPU libraries that the engine calls, or compare them with the recorded ones.

    python tests/gpu/contract.py            compare tests/gpu/signatures.json with what is installed
    python tests/gpu/contract.py --record   write it again

The libraries install and import without a GPU. `make test-gpu-contract` runs this in an environment of its own; the
tests of tests/gpu bind the engine's calls to the recorded signatures on any machine.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from functools import cache
from importlib import import_module
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_name("signatures.json")
DISTRIBUTIONS = ("cudf-cu13", "pylibcudf-cu13", "cuml-cu13", "rmm-cu13", "cupy-cuda13x", "dask-cuda", "flash-kmeans")
FUNCTIONS = {
    "cuml.cluster": ["KMeans", "KMeans.fit"],
    "cuml.dask.cluster": ["KMeans", "KMeans.fit"],
    "cuml.manifold": ["TSNE", "TSNE.fit_transform"],
    "cuml.decomposition": ["PCA", "PCA.fit"],
    "cudf": [
        *("read_orc", "DataFrame.from_pylibcudf", "Index.to_arrow"),
        *(
            f"Series.{name}"
            for name in ("astype", "count", "factorize", "fillna", "isna", "take", "to_arrow", "to_cupy")
        ),
    ],
    "cudf.core.accessors.lists": ["ListMethods.len"],
    "pylibcudf.io": ["SourceInfo"],
    "pylibcudf.io.parquet": [
        "ParquetReaderOptions.builder",
        "ParquetReaderOptions.set_column_names",
        "ParquetReaderOptionsBuilder.build",
        "ChunkedParquetReader",
        "ChunkedParquetReader.has_next",
        "ChunkedParquetReader.read_chunk",
    ],
    "rmm": ["reinitialize"],
    "rmm.mr": ["get_current_device_resource", "CudaMemoryResource"],
    "rmm.statistics": ["enable_statistics", "get_statistics"],
    "rmm.allocators.cupy": ["rmm_cupy_allocator"],
    "cupy": [
        *(
            "abs",
            "add",
            "add.at",
            "arange",
            "argsort",
            "asarray",
            "ascontiguousarray",
            "bincount",
            "concatenate",
            "cumsum",
            "empty",
        ),
        *("exp", "flatnonzero", "floor", "full", "isfinite", "isinf", "isnan", "log", "matmul", "maximum", "minimum"),
        *("nonzero", "ones", "ones_like", "outer", "reciprocal", "rint", "searchsorted", "sort", "sqrt", "square"),
        *("subtract", "take_along_axis", "triu", "unique", "where", "zeros", "get_default_memory_pool"),
    ],
    "cupy.cuda": [
        *("set_allocator", "Event", "Event.record", "Event.synchronize", "get_elapsed_time"),
        *("Stream", "Stream.wait_event", "get_current_stream"),
        *("MemoryPool.set_limit", "MemoryPool.used_bytes", "MemoryPool.free_all_blocks"),
        *("Module", "Module.load", "Module.get_function", "driver.funcSetAttribute"),
    ],
    "cupyx": ["empty_pinned"],
    "dask_cuda": ["LocalCUDACluster"],
    "cupy.cuda.runtime": ["memGetInfo", "deviceSynchronize"],
}
# Functions of distributions that cannot be imported without a GPU: their signatures are read from the source.
IN_SOURCES = {"flash_kmeans.batch_kmeans_Euclid": ("flash-kmeans", "flash_kmeans/kmeans_triton_impl.py")}
ARRAY_METHODS = (
    *("all", "any", "argmin", "astype", "copy", "get", "max", "mean", "min", "ravel", "reshape", "set", "sum"),
    *("tolist", "transpose", "view"),
)
ATTRIBUTES = {  # fitted or instance attributes, which are found in the source only
    "cuml.cluster.KMeans": ["cluster_centers_", "n_iter_"],
    "cuml.manifold.TSNE": ["n_iter_", "embedding_"],
    "cuml.decomposition.PCA": ["components_", "explained_variance_", "mean_"],
    "rmm.statistics.Statistics": ["current_bytes"],
    "cupy.cuda.Device": ["compute_capability", "attributes"],
    "cupy.cuda.Function": ["ptr"],
    "cudf.Series": ["dtype", "list"],
    "cudf.DataFrame": ["iloc"],
    "cudf.core.accessors.lists.ListMethods": ["leaves"],
}


@cache
def read_record() -> dict[str, Any]:
    """Read signatures.json."""
    record: dict[str, Any] = json.loads(RECORD.read_text())
    return record


def make_signature(parameters: list[list[Any]]) -> inspect.Signature:
    """Return a recorded signature as an inspect.Signature, to which arguments can be bound."""
    return inspect.Signature(
        [
            inspect.Parameter(name, inspect._ParameterKind(kind), default=None if optional else inspect.Parameter.empty)
            for name, kind, optional in parameters
        ]
    )


def bind(path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the arguments of a call by their names; raise TypeError if it does not fit the recorded signature."""
    bound = make_signature(read_record()["signatures"][path]).bind(*args, **kwargs)
    return dict(bound.arguments)


def inspect_installed() -> dict[str, Any]:
    """Return what signatures.json would hold for the installed libraries."""
    signatures = {}
    for module, names in FUNCTIONS.items():
        for name in names:
            signatures[f"{module}.{name}"] = _parameters(_import_name(module, name))
    signatures |= {name: _parameters_in_source(*where, name.rpartition(".")[2]) for name, where in IN_SOURCES.items()}
    array = import_module("cupy").ndarray
    signatures |= {f"cupy.ndarray.{name}": _parameters(getattr(array, name)) for name in ARRAY_METHODS}
    missing = [
        f"{owner}.{name}" for owner, names in ATTRIBUTES.items() for name in names if not _has_attribute(owner, name)
    ]
    if missing:
        raise SystemExit(f"not in the libraries' sources: {', '.join(missing)}")
    return {
        "versions": {name: version(name) for name in DISTRIBUTIONS},
        "signatures": signatures,
        "array": sorted(name for name in dir(array) if not name.startswith("_")),
        "attributes": ATTRIBUTES,
    }


def _parameters_in_source(owner: str, path: str, name: str) -> list[list[Any]]:
    """Return the parameters of a function of a module that is not imported."""
    (module,) = [file for file in distribution(owner).files or () if str(file) == path]
    (function,) = [
        node for node in ast.parse(module.read_text()).body if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    arguments, positional = function.args, function.args.args
    required = len(positional) - len(arguments.defaults)
    kinds = inspect.Parameter
    parameters: list[list[Any]] = [
        [argument.arg, int(kinds.POSITIONAL_OR_KEYWORD), number >= required]
        for number, argument in enumerate(positional)
    ]
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        parameters.append([argument.arg, int(kinds.KEYWORD_ONLY), default is not None])
    return parameters


def _import_name(module: str, name: str) -> Any:
    obj = import_module(module)
    for part in name.split("."):
        obj = getattr(obj, part)
    return obj


def _parameters(function: Any) -> list[list[Any]] | None:
    """Return name, kind and whether there is a default of every parameter; None if even the docstring lacks them."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        documented = _parse_docstring(function)
        if documented is None:
            return None
        signature = documented
    return [[p.name, int(p.kind), p.default is not p.empty] for p in signature.parameters.values() if p.name != "self"]


def _parse_docstring(function: Any) -> inspect.Signature | None:
    """Return the signature in the first line of a docstring, as Cython and CuPy's ufuncs write it."""
    first = re.sub(r"\\", "", (function.__doc__ or "").strip().split("\n", 1)[0])
    match = re.match(r"[\w.]+\((?P<inside>.*?)\)\s*(?:->.*)?(?:$|  )", first)
    if match is None:
        return None
    words = []
    for part in re.split(r",\s*(?![^\[]*\])", match["inside"]):
        name, equals, _ = part.partition("=")
        word = name.partition(":")[0].split()[-1:]  # types stand before a name in Cython, behind it in Python
        words.append("".join(word) + ("=None" if equals else ""))
    names: dict[str, Any] = {}
    try:
        exec(f"def documented({', '.join(words)}): pass", names)
    except SyntaxError:
        return None
    return inspect.signature(names["documented"])


def _has_attribute(owner: str, name: str) -> bool:
    """Return whether a class has an attribute, or its methods set it on instances."""
    module, _, cls = owner.rpartition(".")
    kind = getattr(import_module(module), cls)
    if hasattr(kind, name) or name in getattr(kind, "__annotations__", {}):
        return True
    home = sys.modules[kind.__module__].__file__ or ""
    sources = [Path(home), Path(re.sub(r"\.[\w-]*\.?so$", ".pyx", home))]
    return any(re.search(rf"self\.{name}\b", path.read_text()) for path in sources if path.suffix in (".py", ".pyx"))


def main() -> None:
    """Record or compare the signatures."""
    current = json.loads(json.dumps(inspect_installed()))
    if "--record" in sys.argv:
        RECORD.write_text(json.dumps(current, indent=1).replace("\n    ", " ").replace("\n   ]", "]") + "\n")
        print(f"recorded {len(current['signatures'])} signatures")
        return
    record = read_record()
    changed = [name for name in current["signatures"] if record["signatures"].get(name) != current["signatures"][name]]
    changed += [part for part in ("array", "attributes") if record[part] != current[part]]
    if changed or set(record["signatures"]) != set(current["signatures"]):
        raise SystemExit(f"signatures differ from those recorded: {', '.join(changed) or 'other names'}")
    print(f"{len(current['signatures'])} signatures are as recorded; versions {current['versions']}")


if __name__ == "__main__":
    main()
