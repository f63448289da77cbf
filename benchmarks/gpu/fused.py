"""The fused K-Means kernels, compiled by Triton: their bits against the definition, their time against one read."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch
from common import Section, Setting, initial_centers
from fused_pass import FixedPoint, FusedPass, Tiles, choose_fixed_point
from kmeans import describe_speed, generate_rows, inertia_per_row, numbers_of_clusters, recorded_bandwidth

from engine.backends.cpu import CpuBackend

ITERATIONS = 5
REPEATS = 5  # of a settled pass
COPY_ROWS = 1 << 20
VARIANTS = {
    "64 rows, 32 centers, 4 warps": Tiles(64, 32, 64, 1, 4),
    "64 rows, 64 centers, 8 warps": Tiles(64, 64, 64, 1, 8),
    "128 rows, 32 centers, 8 warps": Tiles(128, 32, 64, 1, 8),
    "128 rows, 64 centers, 8 warps": Tiles(128, 64, 64, 1, 8),
    "128 rows, 128 centers, 8 warps": Tiles(128, 128, 64, 1, 8),
}  # of 64 features


def run_bits(section: Section, setting: Setting) -> None:
    """Compare labels and sums of two passes with the definition, which the CPU evaluates."""
    random = np.random.default_rng(0)
    n_rows = setting.pick(1_000_000, 500)

    def mixture(n_features: int, k: int, noise: float = 1.0) -> tuple[Any, Any]:
        means = random.normal(size=(k, n_features)).astype(np.float32)
        X = means[random.integers(0, k, n_rows)] + noise * random.standard_normal((n_rows, n_features), np.float32)
        return X.astype(np.float32), means

    shapes = setting.pick(((64, 20), (64, 100), (64, 1000), (5, 7), (200, 50)), ((64, 20), (5, 7)))
    for n_features, k in shapes:
        section.case(
            f"{n_features} features, k = {k}", lambda shape=(n_features, k): compare(*mixture(*shape), setting)
        )
    X, means = mixture(64, 100, noise=0.01)
    section.case("far from zero", lambda: compare(X + np.float32(1000), means + np.float32(1000), setting))
    weights = random.uniform(0.1, 3.0, n_rows)
    section.case("weights", lambda: compare(*mixture(64, 20), setting, weights))
    whole = random.integers(-3, 4, (20, 16)).astype(np.float32)
    halfway = (whole[random.integers(0, 20, n_rows)] + whole[random.integers(0, 20, n_rows)]) / 2
    section.case("ties", lambda: compare(halfway, whole, setting))
    section.case("beyond 2^31 values", lambda: compare_last_rows(setting))


def run_speed(section: Section, setting: Setting, *, size: int) -> None:
    """Measure passes over rows of one of the sizes, for every number of clusters."""
    X = generate_rows(setting, size)
    on_gpu, bandwidth = copy_to_device(X, setting), recorded_bandwidth(section)
    point = choose_fixed_point(on_gpu, weighted=False)
    for k in numbers_of_clusters(setting):

        def measure(k: int = k) -> dict[str, Any]:
            passes = FusedPass(on_gpu, k, point)
            return time_passes(passes, X, initial_centers(X, k), bandwidth)

        section.case(f"{len(X)} x {X.shape[1]}, k = {k}, fused", measure)
    if size == 0:
        n_tuned = setting.pick(len(X), 100)
        section.case("tuning", lambda: measure_variants(on_gpu[:n_tuned], X, point, setting))


def copy_to_device(X: Any, setting: Setting) -> Any:
    """Copy rows of the host to the device, a part at a time."""
    on_gpu = torch.empty(X.shape, dtype=torch.float32, device=setting.device)
    for start in range(0, len(X), COPY_ROWS):
        on_gpu[start : start + COPY_ROWS] = torch.from_numpy(X[start : start + COPY_ROWS])
    return on_gpu


def compare(X: Any, centers: Any, setting: Setting, weights: Any = None) -> dict[str, Any]:
    """Compare a pass from no labels, and one from its labels to other centers, with the definition."""
    on_gpu = copy_to_device(X, setting)
    device_weights = None if weights is None else torch.from_numpy(weights).to(on_gpu.device)
    point = choose_fixed_point(on_gpu, weights is not None)
    passes = FusedPass(on_gpu, len(centers), point, weights=device_weights)
    facts: dict[str, Any] = {"shape": [*X.shape, len(centers)], "other_labels": [], "other_sums": [], "share_open": []}
    for _ in range(2):
        passes.run(centers)
        expected = np.empty(len(X), np.int32)
        CpuBackend().label(X, centers, expected)
        sums, masses = sum_by_definition(X, weights, expected, len(centers), point)
        found, found_masses = passes.sums()
        facts["other_labels"].append(int((passes.labels.cpu().numpy() != expected).sum()))
        facts["other_sums"].append(int((found != sums).sum() + (found_masses != masses).sum()))
        facts["share_open"].append(passes.counts()[0] / len(X))
        centers = passes.means(centers)
    return facts | {"passed": not any(facts["other_labels"] + facts["other_sums"])}


def sum_by_definition(X: Any, weights: Any, labels: Any, k: int, point: FixedPoint) -> tuple[Any, Any]:
    """Return the int64 sums and masses of clusters, term by term."""
    sums, order = np.zeros((k, X.shape[1]), np.int64), np.argsort(labels, kind="stable")
    first = np.searchsorted(labels[order], np.arange(k + 1))
    row_masses = np.ones(len(X), np.int64)
    if weights is not None:
        row_masses = np.rint(weights * point.mass_scale).astype(np.int64)
    for cluster in range(k):
        rows = order[first[cluster] : first[cluster + 1]]
        terms = X[rows].astype(np.float64) - point.shift
        terms = terms if weights is None else terms * weights[rows, None]
        sums[cluster] = np.rint(terms * point.scale).astype(np.int64).sum(axis=0)
    masses = np.array([row_masses[order[first[i] : first[i + 1]]].sum() for i in range(k)], np.int64)
    return sums, masses


def compare_last_rows(setting: Setting) -> dict[str, Any]:
    """Label a table of more than 2^31 values; compare its last rows with the definition, and all masses."""
    d, k, n_compared = 16, 20, setting.pick(1_000_000, 300)
    n_rows = setting.pick((1 << 31) // d + 1_000_000, 1000)
    on_gpu = torch.zeros((n_rows, d), dtype=torch.float32, device=setting.device)
    random = np.random.default_rng(1)
    centers = random.normal(size=(k, d)).astype(np.float32)
    last = (centers[random.integers(0, k, n_compared)] + random.normal(size=(n_compared, d))).astype(np.float32)
    on_gpu[-n_compared:] = torch.from_numpy(last)
    passes = FusedPass(on_gpu, k, choose_fixed_point(on_gpu, weighted=False))
    passes.run(centers)
    expected, of_zero = np.empty(n_compared, np.int32), np.empty(1, np.int32)
    CpuBackend().label(last, centers, expected)
    CpuBackend().label(np.zeros((1, d), np.float32), centers, of_zero)
    masses = np.bincount(expected, minlength=k)
    masses[of_zero[0]] += n_rows - n_compared
    labels = passes.labels[-n_compared:].cpu().numpy()
    facts = {
        "values": n_rows * d, "other_labels": int((labels != expected).sum()),
        "other_masses": int((passes.sums()[1] != masses).sum()),
    }  # fmt: skip
    return facts | {"passed": not facts["other_labels"] and not facts["other_masses"]}


def time_passes(passes: FusedPass, X: Any, centers: Any, bandwidth: float | None) -> dict[str, Any]:
    """Time iterations with their updates of centers, then settled passes, of which nothing but the kernels is timed."""
    passes.run(centers)  # compiles
    passes = FusedPass(passes.X, passes.n_clusters, passes.fixed_point, tiles=passes.tiles, n_copies=passes.n_copies)
    seconds, counts = [], []
    for _ in range(ITERATIONS):
        synchronize(passes)
        start = time.perf_counter()
        passes.run(centers)
        moved = passes.means(centers)
        synchronize(passes)
        seconds.append(time.perf_counter() - start)
        counts.append(passes.counts())
        centers = moved
    passes.run(centers)
    facts = describe_speed(X.nbytes, seconds, bandwidth)
    facts["share_open"], facts["share_changed"] = ([n / len(X) for n in column] for column in zip(*counts, strict=True))
    settled = {name: time_settled(passes, name) for name in ("label", "refine")}
    facts["settled_milliseconds"] = {name: round(1e3 * value, 3) for name, value in settled.items()}
    if bandwidth is not None:
        facts["settled_share_of_floor"] = round(X.nbytes / bandwidth / sum(settled.values()), 4)
    return facts | {"inertia": inertia_per_row(X, centers)}


def time_settled(passes: FusedPass, kernel: str) -> float:
    """Return the median seconds of one of the kernels where no label changes."""
    seconds = []
    for _ in range(REPEATS):
        synchronize(passes)
        start = time.perf_counter()
        getattr(passes, kernel)()
        synchronize(passes)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def synchronize(passes: FusedPass) -> None:
    if passes.X.device.type == "cuda":
        torch.cuda.synchronize()


def measure_variants(on_gpu: Any, X: Any, point: FixedPoint, setting: Setting) -> dict[str, Any]:
    """Return milliseconds of first and settled passes by the sizes of tiles, and of first passes by copies of sums."""
    facts: dict[str, Any] = {}
    for k in numbers_of_clusters(setting):
        centers = initial_centers(X, k)
        for name, tiles in VARIANTS.items():
            try:
                facts[f"k = {k}, {name}"] = time_variant(on_gpu, k, point, centers, tiles, 8)
            except Exception as error:  # a variant may need more registers or shared memory than there are
                facts[f"k = {k}, {name}"] = {"error": f"{type(error).__name__}: {error}"[:300]}
        for n_copies in (1, 8, 64):
            facts[f"k = {k}, {n_copies} copies of the sums"] = time_variant(on_gpu, k, point, centers, None, n_copies)
    return facts


def time_variant(
    on_gpu: Any, k: int, point: FixedPoint, centers: Any, tiles: Tiles | None, n_copies: int
) -> dict[str, float]:
    FusedPass(on_gpu[:1000], k, point, tiles=tiles, n_copies=n_copies).run(centers)  # compiles
    passes = FusedPass(on_gpu, k, point, tiles=tiles, n_copies=n_copies)
    passes.set_centers(centers)
    synchronize(passes)
    start = time.perf_counter()
    passes.label()
    synchronize(passes)
    first = time.perf_counter() - start
    passes.refine()
    settled = time_settled(passes, "label")
    return {"first_milliseconds": round(1e3 * first, 3), "settled_milliseconds": round(1e3 * settled, 3)}
