"""The fused K-Means kernels, launched by CuPy: their bits against the definition, their time against one read.

Whole iterations are the engine's, changed labels copied to the host included. Settled passes are timed kernel by
kernel: no label changes in them. Only the tuning needs Triton, which compiles tiles of other sizes on the spot.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from common import Section, Setting, gpu, initial_centers, time_call
from kmeans import (
    describe_speed,
    generate_rows,
    inertia_per_row,
    numbers_of_clusters,
    recorded_bandwidth,
    time_iterations,
)

from engine.backends.cpu import CpuBackend
from engine.execution.array_storage import IN_MEMORY
from engine.kernels.cuda.kmeans import fused_pass
from engine.kernels.cuda.launch import CompiledKernel
from engine.kmeans.lloyd import LloydState, Samples

REPEATS = 5  # of a settled pass
COPIES = (1, 8, 64)  # of the sums
# Rows, centers, features, blocks of features, and warps of a program; for 64 features.
VARIANTS = ((64, 32, 64, 1, 4), (64, 64, 64, 1, 8), (128, 32, 64, 1, 8), (128, 64, 64, 1, 8), (128, 128, 64, 1, 8))


def run_bits(section: Section, setting: Setting) -> None:
    """Compare labels and sums of two passes with the definition, which the CPU evaluates."""
    random = np.random.default_rng(0)
    n_rows = setting.pick(1_000_000, 500)

    def mixture(n_features: int, k: int, noise: float = 1.0, n_rows: int = n_rows) -> tuple[Any, Any]:
        means = random.normal(size=(k, n_features)).astype(np.float32)
        X = means[random.integers(0, k, n_rows)] + noise * random.standard_normal((n_rows, n_features), np.float32)
        return X.astype(np.float32), means

    shapes = setting.pick(((64, 20), (64, 100), (64, 1000), (5, 7), (100, 20), (200, 50)), ((64, 20), (5, 7)))
    for n_features, k in shapes:
        section.case(f"{n_features} features, k = {k}", lambda shape=(n_features, k): compare(*mixture(*shape)))
    few_rows = setting.pick(100_000, 500)  # the definition takes the CPU as long as for a million rows of 64 features
    for n_features, k in setting.pick(((64, 10_000), (1024, 100)), ((5, 70), (140, 7))):
        section.case(
            f"{n_features} features, k = {k}",
            lambda shape=(n_features, k): compare(*mixture(*shape, n_rows=few_rows)),
        )
    X, means = mixture(64, 100, noise=0.01)
    section.case("far from zero", lambda: compare(X + np.float32(1000), means + np.float32(1000)))
    weights = random.uniform(0.1, 3.0, n_rows)
    section.case("weights", lambda: compare(*mixture(64, 20), weights))
    whole = random.integers(-3, 4, (20, 16)).astype(np.float32)
    halfway = (whole[random.integers(0, 20, n_rows)] + whole[random.integers(0, 20, n_rows)]) / 2
    section.case("ties", lambda: compare(halfway, whole))
    section.case("beyond 2^31 values", lambda: compare_last_rows(setting))


def run_speed(section: Section, setting: Setting, *, size: int) -> None:
    """Measure iterations and settled passes over rows of one of the sizes, for every number of clusters."""
    X, bandwidth = generate_rows(setting, size), recorded_bandwidth(section)
    rows = Samples.from_array(X, None, gpu().with_fused_kernels())
    if rows.prepared.X is None:
        raise MemoryError(f"{len(X)} rows do not fit on the device")
    for k in numbers_of_clusters(setting):

        def measure(k: int = k) -> dict[str, Any]:
            seconds, centers = time_iterations(rows, initial_centers(X, k))
            facts = describe_speed(X.nbytes, seconds, bandwidth) | {"inertia": inertia_per_row(X, centers)}
            settled, share_open = time_settled(rows, centers)
            facts |= {"settled_milliseconds": to_milliseconds(settled), "share_open": share_open}
            if bandwidth is not None:
                facts["settled_share_of_floor"] = round(X.nbytes / bandwidth / sum(settled.values()), 4)
            return facts

        section.case(f"{len(X)} x {X.shape[1]}, k = {k}, fused", measure)


def run_tuning(section: Section, setting: Setting) -> None:
    """Measure kernels by the sizes of tiles, and first passes by copies of the sums."""
    X, backend = generate_rows(setting, 0), gpu().with_fused_kernels()
    rows = Samples.from_array(X, None, backend)
    for k in numbers_of_clusters(setting):
        centers = initial_centers(X, k)
        for variant in VARIANTS:
            name = "{} rows, {} centers, {} warps".format(*variant[:2], variant[4])
            section.case(
                f"k = {k}, {name}",
                lambda variant=variant, centers=centers: to_milliseconds(time_variant(rows, centers, variant)),
            )
        for n_copies in COPIES:
            section.case(
                f"k = {k}, first pass, {n_copies} copies of the sums",
                lambda centers=centers, n_copies=n_copies: to_milliseconds(time_first(rows, centers, n_copies)),
            )


def compare(X: Any, centers: Any, weights: Any = None) -> dict[str, Any]:
    """Compare a pass from no labels, and one from its labels to other centers, with the definition."""
    rows = Samples.from_array(X, weights, gpu().with_fused_kernels())
    state = rows.new_state(len(centers))
    facts: dict[str, Any] = {"shape": [*X.shape, len(centers)], "other_labels": [], "other_sums": [], "share_open": []}
    for _ in range(2):
        state.relabel(centers)
        expected = np.empty(len(X), np.int32)
        CpuBackend().label(X, centers, expected)
        sums, masses = sum_by_definition(rows, expected, len(centers))
        facts["other_labels"].append(int((state.labels != expected).sum()))
        facts["other_sums"].append(int((state.sums != sums).sum() + (state.masses != masses).sum()))
        facts["share_open"].append(state.last_counts.opened / len(X))
        centers = state.update_centers(centers)
    return facts | {"passed": not any(facts["other_labels"] + facts["other_sums"])}


def sum_by_definition(rows: Samples, labels: Any, k: int) -> tuple[Any, Any]:
    """Return the int64 sums and masses of clusters, term by term."""
    X, weights, grid = rows.X, rows.weights, rows.grid
    sums, order = np.zeros((k, X.shape[1]), np.int64), np.argsort(labels, kind="stable")
    first = np.searchsorted(labels[order], np.arange(k + 1))
    row_masses = np.rint(weights * grid.mass_scale).astype(np.int64) if len(weights) else np.ones(len(X), np.int64)
    for cluster in range(k):
        chosen = order[first[cluster] : first[cluster + 1]]
        terms = X[chosen].astype(np.float64) - grid.shift
        terms = terms * weights[chosen, None] if len(weights) else terms
        sums[cluster] = np.rint(terms * grid.scale).astype(np.int64).sum(axis=0)
    masses = np.array([row_masses[order[first[i] : first[i + 1]]].sum() for i in range(k)], np.int64)
    return sums, masses


def compare_last_rows(setting: Setting) -> dict[str, Any]:
    """Label a table of more than 2^31 values; compare its last rows with the definition, and all masses."""
    d, k, n_compared = 16, 20, setting.pick(1_000_000, 300)
    n_rows = setting.pick((1 << 31) // d + 1_000_000, 1000)
    backend, random = gpu().with_fused_kernels(), np.random.default_rng(1)
    matrix: Any = backend.allocate_scores((n_rows, d), IN_MEMORY)
    matrix.array[...] = 0.0
    centers = random.normal(size=(k, d)).astype(np.float32)
    last = (centers[random.integers(0, k, n_compared)] + random.normal(size=(n_compared, d))).astype(np.float32)
    matrix.array[-n_compared:] = backend.xp.asarray(last)
    state = Samples.from_array(matrix, None, backend).new_state(k)
    state.relabel(centers)
    expected, of_zero = np.empty(n_compared, np.int32), np.empty(1, np.int32)
    CpuBackend().label(last, centers, expected)
    CpuBackend().label(np.zeros((1, d), np.float32), centers, of_zero)
    masses = np.bincount(expected, minlength=k)
    masses[of_zero[0]] += n_rows - n_compared
    facts = {
        "values": n_rows * d, "other_labels": int((state.labels[-n_compared:] != expected).sum()),
        "other_masses": int((state.masses != masses).sum()),
    }  # fmt: skip
    return facts | {"passed": not facts["other_labels"] and not facts["other_masses"]}


class TimedLaunches:
    """Launches of a device, with the seconds that each kernel took."""

    def __init__(self, device: fused_pass.FusedDevice) -> None:
        self.device = device._replace(launch=self._launch)
        self.seconds: dict[str, list[float]] = {"label_rows": [], "refine_rows": []}
        self._inner = device.launch

    def _launch(self, kernel: CompiledKernel, n_programs: int, arguments: Mapping[str, Any]) -> None:
        seconds, _ = time_call(self.device.xp, lambda: self._inner(kernel, n_programs, arguments))
        self.seconds[kernel.entry].append(seconds)

    def medians(self) -> dict[str, float]:
        return {entry: statistics.median(seconds) for entry, seconds in self.seconds.items()}


def time_settled(rows: Samples, centers: Any) -> tuple[dict[str, float], float]:
    """Return the median seconds of each kernel where no label changes, and the share of rows left open."""
    state, backend = rows.new_state(len(centers)), cast(Any, rows.backend)
    state.relabel(centers)  # loads the kernels, too
    timed, untimed = TimedLaunches(backend.fused_device), backend.fused_device
    backend.fused_device = timed.device
    try:
        for _ in range(REPEATS):
            state.relabel(centers)
    finally:
        backend.fused_device = untimed
    return timed.medians(), state.last_counts.opened / len(rows.X)


def time_variant(rows: Samples, centers: Any, variant: tuple[int, ...]) -> dict[str, float]:
    """Return the median seconds of each kernel in settled passes, with tiles of other sizes."""
    from engine.kernels.cuda import build  # it imports Triton

    backend, tiles = cast(Any, rows.backend), fused_pass.Tiles(*variant[:4])
    sizes = dict(zip(("ROWS", "CENTERS", "FEATURES", "FEATURE_BLOCKS"), tiles, strict=True))
    configuration = build.Configuration("label_rows", sizes | {"WEIGHTED": False, "WIDEN": False}, variant[4])
    architecture = int(backend.xp.cuda.Device().compute_capability)
    compiled = build.compile_kernel(configuration, architecture)
    described = build.describe(configuration, compiled, architecture)
    parameters = tuple(map(tuple, described["parameters"]))
    kernel = CompiledKernel(
        described["name"], described["entry"], described["constants"], described["threads"],
        described["shared_bytes"], parameters, compiled.asm["cubin"],
    )  # fmt: skip
    timed = TimedLaunches(backend.fused_device._replace(kernels=(kernel, *backend.fused_device.kernels)))
    quantizer = rows.prepared.quantizer
    prepared = fused_pass.prepare_centers(
        timed.device, centers, quantizer.shift, float(quantizer.factor), quantizer.sound, tiles
    )
    labels = backend.xp.asarray(np.full(len(rows.X), -1, np.int32))
    for number in range(1 + REPEATS):
        _run_pass(timed.device, rows, labels, prepared)
        if number == 0:
            timed.seconds = {entry: [] for entry in timed.seconds}
    return timed.medians()


def time_first(rows: Samples, centers: Any, n_copies: int) -> dict[str, float]:
    """Return the seconds of each kernel in the pass in which every row joins a cluster."""
    backend, usual = cast(Any, rows.backend), fused_pass.MAX_COPIES
    LloydState(rows, len(centers)).relabel(centers)  # loads the kernels
    timed, quantizer = TimedLaunches(backend.fused_device), rows.prepared.quantizer
    prepared = fused_pass.prepare_centers(
        timed.device, centers, quantizer.shift, float(quantizer.factor), quantizer.sound
    )
    labels = backend.xp.asarray(np.full(len(rows.X), -1, np.int32))
    fused_pass.MAX_COPIES = n_copies
    try:
        _run_pass(timed.device, rows, labels, prepared)
    finally:
        fused_pass.MAX_COPIES = usual
    return timed.medians()


def _run_pass(device: fused_pass.FusedDevice, rows: Samples, labels: Any, centers: fused_pass.FusedCenters) -> None:
    point = fused_pass.FixedPoint(rows.grid.shift, rows.grid.scale, rows.grid.mass_scale)
    fused_pass.run_pass(device, rows.prepared.X, device.xp.empty(0), labels, centers, point)


def to_milliseconds(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(1e3 * value, 3) for name, value in seconds.items()}
