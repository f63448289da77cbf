"""Measure the machine, PCA, t-SNE, placement, reading and whole fits: seconds on the GPU beside seconds on the CPU."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import agreement
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import Mixture, Report, Section, Setting, all_passed, gpu, measure_bandwidth, time_call

from engine import PCA, TSNE
from engine.bench.gpu import cuml_tsne
from engine.bench.run import describe_machine
from engine.bench.task import PERPLEXITY, Task
from engine.config import FitConfig
from engine.datasets.demo_table import write_demo
from engine.execution.array_storage import IN_MEMORY
from engine.execution.threads import map_blocks
from engine.features.encoded_moments import make_projection
from engine.features.encoder import FeatureEncoder
from engine.features.fit import choose_reader, fit_encoder
from engine.kernels.arrays.neighbors import knn_exact
from engine.pca.solver import Components
from engine.pipeline.fit import fit
from engine.tables import open_table
from engine.tsne.device import build_placement_index, place_rows
from engine.tsne.gpu_embed import measure_divergence

DEVICES = ("cuda", "cpu")
WARM_ROWS = 2000
CLUSTERS_ONLY = ["map", "report", "explain"]  # parts of a fit to skip
MEMCHECK_SECONDS = 60
ROW_GROUP_ROWS = 65_536  # as in the demo table
LARGEST_MEMBERS = 100_000_000
WRITING_SHARE = 0.6  # of the section of the largest job, after which no more members are written


def compile_kernels(section: Section, setting: Setting) -> None:
    """Compile the CPU's kernels that later sections use; nothing is timed."""
    X = Mixture(3000).first_rows(3000)
    table = write_demo(setting.folder / "kernels", WARM_ROWS).members
    config = FitConfig.merge({}, skip=setting.pick([], CLUSTERS_ONLY))

    def place() -> dict[str, Any]:
        model = TSNE(max_iter=250, random_state=0, device="cpu").fit(X[:300])
        return {"placed": len(model.transform(X[300:]))}

    def fit_demo() -> dict[str, Any]:
        run = fit(table, out=setting.folder / "compiled", id="user_id", n_clusters=12, device="cpu", config=config)
        return {"clusters": len(run.clusters)}

    section.case("k-means", lambda: agreement.compare_kmeans(X, 7))
    section.case("k-means, weighted", lambda: agreement.compare_kmeans(X, 7, np.ones(len(X))))
    section.case("pca", lambda: agreement.compare_pca(X))
    section.case("map", place)
    section.case("fit", fit_demo)


def machine(section: Section, setting: Setting) -> None:
    """Describe the machine, and measure the bandwidths that are floors of other sections."""
    n_bytes = setting.pick(1 << 32, 1 << 20)
    section.case("what", describe_machine)
    section.case(
        "bandwidth", lambda: {"bytes": n_bytes, "bytes_per_second": measure_bandwidth(gpu().xp, n_bytes)}
    )  # fmt: skip
    section.case("copies from the host", lambda: measure_host_copies(n_bytes))


def measure_host_copies(n_bytes: int) -> dict[str, Any]:
    """Return the bytes a second of a copy from the host, as it is, and through pinned buffers."""
    backend, X = gpu(), np.ones((n_bytes // 256, 64), np.float32)

    def copy_in_pieces() -> None:
        for _ in backend.copy_in_pieces(X):
            pass

    methods = {"plain": lambda: backend.xp.asarray(X), "pinned_buffers": copy_in_pieces}
    least = {name: min(time_call(backend.xp, copy)[0] for _ in range(3)) for name, copy in methods.items()}
    return {"bytes": X.nbytes} | {f"{name}_bytes_per_second": X.nbytes / seconds for name, seconds in least.items()}


def pca(section: Section, setting: Setting) -> None:
    """Measure our PCA on both devices."""
    mixture = Mixture(pca_sizes(setting)[-1])
    for device in DEVICES:
        time_pca(mixture.first_rows(WARM_ROWS), device)
    for n_rows in pca_sizes(setting):
        X = mixture.first_rows(n_rows)
        for device in DEVICES:
            section.case(f"{n_rows} x 64, {device}", lambda X=X, device=device: time_pca(X, device))


def cuml_pca(section: Section, setting: Setting) -> None:
    """Measure cuML's PCA on the same rows."""
    mixture = Mixture(pca_sizes(setting)[-1])
    for n_rows in pca_sizes(setting):
        X = mixture.first_rows(n_rows)
        section.case(f"{n_rows} x 64, cuML", lambda X=X: time_cuml_pca(X))


def pca_sizes(setting: Setting) -> tuple[int, ...]:
    sizes: tuple[int, ...] = setting.pick((1_000_000, 10_000_000), (2000,))
    return sizes


def time_pca(X: Any, device: str) -> dict[str, Any]:
    """Time fit and transform from rows in the host's memory."""
    xp = gpu().xp
    fit_seconds, model = time_call(xp, lambda: PCA(16, device=device).fit(X))
    transform_seconds, _ = time_call(xp, lambda: model.transform(X))
    return {"fit": fit_seconds, "transform": transform_seconds, "fit_gb_per_second": X.nbytes / fit_seconds / 1e9}


def time_cuml_pca(X: Any) -> dict[str, Any]:
    from cuml import decomposition

    decomposition.PCA(n_components=16).fit(X[:WARM_ROWS].copy())
    seconds, _ = time_call(gpu().xp, lambda: decomposition.PCA(n_components=16).fit(X))
    return {"fit": seconds, "fit_gb_per_second": X.nbytes / seconds / 1e9}


class Clock:
    """A reporter that records the seconds of stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Any]:
        start = time.perf_counter()
        yield lambda rows: None
        self.seconds[name] = time.perf_counter() - start


def tsne(section: Section, setting: Setting) -> None:
    """Measure t-SNE of 500 iterations; on the GPU, cuML descends, and the engine computes neighbors and the KL."""
    small, large = setting.pick((100_000, 1_000_000), (200, 300))
    mixture = Mixture(large, 32, 20)
    for device in DEVICES:
        time_tsne(mixture.first_rows(setting.pick(WARM_ROWS, 200)), device)
    for n_rows, device in ((small, "cuda"), (large, "cuda"), (small, "cpu")):
        section.case(f"{n_rows} x 32, {device}", lambda n=n_rows, d=device: time_tsne(mixture.first_rows(n), d))
    for n_rows in (small, large):
        section.case(f"{n_rows} x 32, cuML alone", lambda n=n_rows: time_cuml_tsne(mixture.first_rows(n)))


def time_cuml_tsne(X: Any) -> dict[str, Any]:
    """Time cuML's own t-SNE, neighbors included, and measure its divergence as the engine measures its own."""
    device = gpu()
    seconds, embedding = time_call(device.xp, lambda: cuml_tsne(Task(X, np.empty(0), 0, 2)))
    rows = device.xp.asarray(X)
    neighbors, squared = knn_exact.find_exact_neighbors(device.xp, rows, int(3 * PERPLEXITY), device.chunk_values)
    places = device.xp.asarray(embedding)
    kl = measure_divergence(device, neighbors, squared, places, PERPLEXITY, device.chunk_values)
    return {"seconds": seconds, "kl_divergence": kl}


def time_tsne(X: Any, device: str) -> dict[str, Any]:
    clock = Clock()
    model = TSNE(perplexity=30, max_iter=500, random_state=0, device=device)
    seconds, _ = time_call(gpu().xp, lambda: model.fit(X, reporter=clock))
    return {"seconds": seconds, "stages": clock.seconds, "kl_divergence": float(model.kl_divergence_)}


def placement(section: Section, setting: Setting) -> None:
    n_landmarks, n_rows = setting.pick((10_000, 1_000_000), (300, 2000))
    X = Mixture(n_landmarks + n_rows, 32, 20).first_rows(n_landmarks + n_rows)
    model = TSNE(max_iter=250, random_state=0, device="cpu").fit(X[:n_landmarks])
    new, coordinates = X[n_landmarks:], {}

    def place(device: str) -> dict[str, Any]:
        model.device = device
        model.transform(new[:WARM_ROWS])
        seconds, coordinates[device] = time_call(gpu().xp, lambda: model.transform(new))
        return {"seconds": seconds, "rows_per_second": n_rows / seconds}

    def place_fused() -> dict[str, Any]:
        if not hasattr(gpu(), "with_fused_kernels"):
            return {"skipped": "NumPy has no such kernels"}
        backend = gpu().with_fused_kernels()
        index = build_placement_index(backend, X[:n_landmarks], model.embedding_)
        place_rows(backend, new[:WARM_ROWS], index)
        seconds, placed = time_call(gpu().xp, lambda: place_rows(backend, new, index))
        same = bool(np.array_equal(placed.coordinates, coordinates["cuda"]))
        return {"seconds": seconds, "rows_per_second": n_rows / seconds, "passed": same}

    def compare() -> dict[str, Any]:
        differences = np.abs(coordinates["cuda"] - coordinates["cpu"]).max(axis=1)
        return {"share_beyond_0.01": float((differences > 0.01).mean()), "largest": float(differences.max())}

    for device in DEVICES:
        section.case(f"{n_rows} x 32 on {n_landmarks} landmarks, {device}", lambda device=device: place(device))
    section.case("coordinates on both", compare)
    section.case("the same by fused kernels, with the bits of the array code", place_fused)


def members(setting: Setting) -> Path:
    """Return a table of generated members, which is written once."""
    folder = setting.folder / "members"
    if not folder.exists():
        write_demo(setting.folder / "unfinished", setting.pick(10_000_000, 3000), overwrite=True)
        (setting.folder / "unfinished").rename(folder)
    return folder / "members"


def write_members(section: Section, setting: Setting) -> None:
    """Write the table of the sections that read it."""
    section.case("write", lambda: {"bytes": sum(path.stat().st_size for path in members(setting).iterdir())})


def parquet(section: Section, setting: Setting) -> None:
    """Read and encode Parquet files, cached by the system, and project the rows: by the CPU and by cuDF."""
    table = open_table(members(setting), id="user_id")
    fitted = fit_encoder(table, id="user_id")
    reader = choose_reader(gpu(), table)
    device_rows = reader if isinstance(reader, str) else reader.encoded_table(fitted.encoder)

    def read_on_gpu() -> dict[str, Any]:
        if isinstance(device_rows, str):
            return {"skipped": device_rows}
        time_scores(device_rows, fitted.encoder)
        return time_scores(device_rows, fitted.encoder)

    section.case("pyarrow reads, the CPU encodes", lambda: time_scores(fitted.rows, fitted.encoder))
    section.case("cuDF reads, the GPU encodes", read_on_gpu)


def time_scores(rows: Any, encoder: FeatureEncoder) -> dict[str, Any]:
    """Time the two passes after the statistics, and return the bytes of X that they process a second."""
    backend = gpu()
    moments_seconds, moments = time_call(backend.xp, lambda: rows.compute_moments(backend, lambda n_rows: None))
    axes = make_projection(encoder.layout, moments.mean, Components.from_moments(moments, 16).components_.T)
    Z = backend.allocate_scores((moments.n_rows, 16), IN_MEMORY)

    def write(start: int, part: Any) -> None:
        backend.encoded_scores(part, axes, Z[start : start + len(part.dense)])

    scores_seconds, _ = time_call(backend.xp, lambda: list(rows.map(write, last=True)))
    n_bytes = 4 * moments.n_rows * encoder.n_features
    return {
        "rows": moments.n_rows, "read_and_moments": moments_seconds, "scores": scores_seconds,
        "gb_of_matrix_per_second": n_bytes / (moments_seconds + scores_seconds) / 1e9,
    }  # fmt: skip


def job(section: Section, setting: Setting) -> None:
    """Measure whole fits, from table to run directory: clusters only, then with the map and everything else."""
    table = members(setting)
    warm = write_demo(setting.folder / "warm", WARM_ROWS, overwrite=True).members
    labels: dict[str, Any] = {}

    def fit_once(device: str, skip: list[str], source: Any = table) -> dict[str, Any]:
        facts, labels[device] = time_fit(setting, source, device, skip)
        return facts

    def compare() -> dict[str, Any]:
        return {"equal_labels": float((labels["cuda"] == labels["cpu"]).mean())}

    for name, skip in (("clusters only", CLUSTERS_ONLY), ("everything", setting.pick([], CLUSTERS_ONLY))):
        for device in DEVICES:
            fit_once(device, skip, warm)
        for device in DEVICES:
            section.case(f"{name}, {device}", lambda device=device, skip=skip: fit_once(device, skip))
        section.case(f"{name}, labels on both", compare)


def time_fit(setting: Setting, table: Path, device: str, skip: list[str]) -> tuple[dict[str, Any], Any]:
    """Fit a table into a run directory; return seconds of all stages, and the labels."""
    config, out = FitConfig.merge({}, skip=skip), setting.folder / f"job-{device}"
    start = time.perf_counter()
    run = fit(table, out=out, id="user_id", n_clusters=12, device=device, config=config, overwrite=True)
    seconds = time.perf_counter() - start
    labels = run.assignments["cluster"].to_numpy()
    stages = {one["stage"]: one["seconds"] for one in run.manifest["stages"]}
    computed_by = {stage: entry["library"] for stage, entry in run.manifest["computed_by"].items()}
    return {"rows": len(labels), "computed_by": computed_by, "seconds": seconds, "stages": stages}, labels


def largest_job(section: Section, setting: Setting) -> None:
    """Measure a whole fit of as many members as could be written in a part of the section, LARGEST_MEMBERS at most."""
    warm, everything = (
        write_demo(setting.folder / "warm", WARM_ROWS, overwrite=True).members,
        setting.pick([], CLUSTERS_ONLY),
    )
    table = members(setting)
    most = setting.pick(LARGEST_MEMBERS, 7000)
    until = section.deadline - (1 - WRITING_SHARE) * section.seconds
    section.case("write", lambda: {"rows": write_more_members(table, setting.folder / "largest", most, until)})
    time_fit(setting, warm, "cuda", everything)
    section.case("everything, cuda", lambda: time_fit(setting, setting.folder / "largest", "cuda", everything)[0])


def write_more_members(table: Path, folder: Path, most: int, until: float) -> int:
    """Write the parts of a table again and again, with new ids every time, up to `most` rows; return their number.

    No part is begun after `until` (of time.perf_counter), but the table is there once.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier section
    folder.mkdir()
    parts = sorted(table.glob("*.parquet"))
    starts = np.cumsum([0, *(pq.ParquetFile(part).metadata.num_rows for part in parts)])
    n_rows = int(starts[-1])

    def write(place: tuple[int, int]) -> int:
        number, part = place
        if number and time.perf_counter() > until:
            return 0
        rows = pq.read_table(parts[part])
        ids = pa.array(np.arange(len(rows)) + number * n_rows + starts[part], pa.int64())
        rows = rows.set_column(0, rows.schema.field(0), ids)
        out = folder / f"part-{number:03d}-{part:03d}.parquet"
        pq.write_table(rows, out, compression="zstd", row_group_size=ROW_GROUP_ROWS)
        return len(rows)

    places = ((number, part) for number in range(max(most // n_rows, 1)) for part in range(len(parts)))
    return sum(map_blocks(write, places))


def sanitizer(section: Section, setting: Setting) -> None:
    section.case("memcheck", lambda: memcheck(setting))


def memcheck(setting: Setting) -> dict[str, Any]:
    """Run the section "agreement" on small shapes under compute-sanitizer."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return {"skipped": "compute-sanitizer is not on PATH"}
    script, out = Path(__file__).with_name("measure.py"), setting.folder / "memcheck.json"
    command = [tool, "--tool", "memcheck", "--target-processes", "all", "--error-exitcode", "9", sys.executable]
    command += [str(script), "--tiny", "--device", setting.device, "--sections", "agreement", "--out", str(out)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=MEMCHECK_SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # the tool and its children
    passed = all_passed(Report(out).read().get("agreement", {}))
    return {"status": process.returncode, "clean": process.returncode == 0, "passed": passed, "tail": output[-1500:]}
