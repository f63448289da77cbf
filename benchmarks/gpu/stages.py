"""The machine, PCA, maps, placement, reading, and the whole job: seconds on the GPU beside seconds on the CPU."""

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

import agree
import numpy as np
from common import Mixture, Report, Section, Setting, gpu, timed

from engine import PCA, TSNE
from engine.bench.run import describe_machine
from engine.config import FitConfig
from engine.datasets.demo_table import write_demo
from engine.execution.array_storage import IN_MEMORY
from engine.features.encoded_moments import make_projection
from engine.features.encoder import FeatureEncoder
from engine.features.fit import choose_reader, fit_encoder
from engine.pca.solver import Components
from engine.pipeline.fit import fit
from engine.tables import open_table

BOTH = ("cuda", "cpu")
WARM_ROWS = 2000
LEAN = ["map", "report", "explain"]  # to skip
MEMCHECK_SECONDS = 60


def kernels(section: Section, setting: Setting) -> None:
    """Compile what later sections time, once for all of them: nobody's figures."""
    X = Mixture(3000).upto(3000)
    table = write_demo(setting.folder / "kernels", WARM_ROWS).members
    config = FitConfig.merge({}, skip=setting.pick([], LEAN))

    def places() -> dict[str, Any]:
        model = TSNE(max_iter=250, random_state=0, device="cpu").fit(X[:300])
        return {"placed": len(model.transform(X[300:]))}

    def whole() -> dict[str, Any]:
        run = fit(table, out=setting.folder / "compiled", id="user_id", n_clusters=12, device="cpu", config=config)
        return {"clusters": len(run.clusters)}

    section.case("k-means", lambda: agree.kmeans(X, 7))
    section.case("k-means, weighted", lambda: agree.kmeans(X, 7, np.ones(len(X))))
    section.case("pca", lambda: agree.pca(X))
    section.case("map", places)
    section.case("fit", whole)


def machine(section: Section, setting: Setting) -> None:
    section.case("what", describe_machine)
    section.case("bandwidth", lambda: bandwidth(setting.pick(1 << 32, 1 << 20)))
    section.case("copies from the host", lambda: copies(setting.pick(1 << 32, 1 << 20)))


def bandwidth(n_bytes: int) -> dict[str, Any]:
    """Return what a copy from the device's memory to itself moves: bytes read and written, by seconds."""
    xp = gpu().xp
    source, target = xp.zeros(n_bytes // 4, np.float32), xp.zeros(n_bytes // 4, np.float32)

    def copy() -> None:
        target[...] = source

    least = min(timed(xp, copy)[0] for _ in range(10))
    return {"bytes": n_bytes, "bytes_per_second": 2 * n_bytes / least}


def copies(n_bytes: int) -> dict[str, Any]:
    """Return the bytes a second of a copy from the host, as it is, and through pinned buffers."""
    backend, X = gpu(), np.ones((n_bytes // 256, 64), np.float32)

    def in_pieces() -> None:
        for _ in backend.copy_in_pieces(X):
            pass

    ways = {"plain": lambda: backend.xp.asarray(X), "staged": in_pieces}
    least = {name: min(timed(backend.xp, way)[0] for _ in range(3)) for name, way in ways.items()}
    return {"bytes": X.nbytes} | {f"{name}_bytes_per_second": X.nbytes / seconds for name, seconds in least.items()}


def pca(section: Section, setting: Setting) -> None:
    sizes = setting.pick((1_000_000, 10_000_000), (2000,))
    mixture = Mixture(sizes[-1])
    for device in BOTH:
        pca_of(mixture.upto(WARM_ROWS), device)
    for n_rows in sizes:
        X = mixture.upto(n_rows)
        for device in BOTH:
            section.case(f"{n_rows} x 64, {device}", lambda X=X, device=device: pca_of(X, device))
        section.case(f"{n_rows} x 64, cuML", lambda X=X: cuml_pca(X))


def pca_of(X: Any, device: str) -> dict[str, Any]:
    """Time fit and transform from rows in the host's memory."""
    xp = gpu().xp
    fit, model = timed(xp, lambda: PCA(16, device=device).fit(X))
    project, _ = timed(xp, lambda: model.transform(X))
    return {"fit": fit, "transform": project, "fit_gb_per_second": X.nbytes / fit / 1e9}


def cuml_pca(X: Any) -> dict[str, Any]:
    from cuml import decomposition

    decomposition.PCA(n_components=16).fit(X[:WARM_ROWS].copy())
    seconds, _ = timed(gpu().xp, lambda: decomposition.PCA(n_components=16).fit(X))
    return {"fit": seconds, "fit_gb_per_second": X.nbytes / seconds / 1e9}


class Clock:
    """A reporter that keeps the seconds of stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Any]:
        start = time.perf_counter()
        yield lambda rows: None
        self.seconds[name] = time.perf_counter() - start


def tsne(section: Section, setting: Setting) -> None:
    """Maps of 500 iterations; on the GPU the descent is cuML's, neighbours and KL are ours."""
    small, large = setting.pick((100_000, 1_000_000), (200, 300))
    mixture = Mixture(large, 32, 20)
    for device in BOTH:
        tsne_of(mixture.upto(setting.pick(WARM_ROWS, 200)), device)
    for n_rows, device in ((small, "cuda"), (large, "cuda"), (small, "cpu")):
        section.case(f"{n_rows} x 32, {device}", lambda n=n_rows, d=device: tsne_of(mixture.upto(n), d))


def tsne_of(X: Any, device: str) -> dict[str, Any]:
    clock = Clock()
    model = TSNE(perplexity=30, max_iter=500, random_state=0, device=device)
    seconds, _ = timed(gpu().xp, lambda: model.fit(X, reporter=clock))
    return {"seconds": seconds, "stages": clock.seconds, "kl_divergence": float(model.kl_divergence_)}


def placement(section: Section, setting: Setting) -> None:
    n_landmarks, n_rows = setting.pick((10_000, 1_000_000), (300, 2000))
    X = Mixture(n_landmarks + n_rows, 32, 20).upto(n_landmarks + n_rows)
    model = TSNE(max_iter=250, random_state=0, device="cpu").fit(X[:n_landmarks])
    new, found = X[n_landmarks:], {}

    def place(device: str) -> dict[str, Any]:
        model.device = device
        model.transform(new[:WARM_ROWS])
        seconds, found[device] = timed(gpu().xp, lambda: model.transform(new))
        return {"seconds": seconds, "rows_per_second": n_rows / seconds}

    def apart() -> dict[str, Any]:
        away = np.abs(found["cuda"] - found["cpu"]).max(axis=1)
        return {"farther_than_0.01": float((away > 0.01).mean()), "most": float(away.max())}

    for device in BOTH:
        section.case(f"{n_rows} x 32 on {n_landmarks} landmarks, {device}", lambda device=device: place(device))
    section.case("places on both", apart)


def members(setting: Setting) -> Path:
    """Return a table of generated members, written once, and there only when it is whole."""
    folder = setting.folder / "members"
    if not folder.exists():
        write_demo(setting.folder / "unfinished", setting.pick(10_000_000, 3000), overwrite=True)
        (setting.folder / "unfinished").rename(folder)
    return folder / "members"


def write_members(section: Section, setting: Setting) -> None:
    """Write that table, for the sections that read it."""
    section.case("write", lambda: {"bytes": sum(path.stat().st_size for path in members(setting).iterdir())})


def parquet(section: Section, setting: Setting) -> None:
    """Members from files that the system has cached, encoded, to scores on the device: who reads and encodes?"""
    table = open_table(members(setting), id="user_id")
    found = fit_encoder(table, id="user_id")
    reader = choose_reader(gpu(), table)
    own = reader if isinstance(reader, str) else reader.encoded_table(found.encoder)

    def by_device() -> dict[str, Any]:
        if isinstance(own, str):
            return {"skipped": own}
        scored(own, found.encoder)
        return scored(own, found.encoder)

    section.case("pyarrow reads, the CPU encodes", lambda: scored(found.rows, found.encoder))
    section.case("cuDF reads, the GPU encodes", by_device)


def scored(rows: Any, encoder: FeatureEncoder) -> dict[str, Any]:
    """Return the seconds of the two passes that follow the statistics, and bytes of X a second that they stand for."""
    backend = gpu()
    covariance, found = timed(backend.xp, lambda: rows.compute_moments(backend, lambda n_rows: None))
    axes = make_projection(encoder.layout, found.mean, Components.from_moments(found, 16).components_.T)
    Z = backend.allocate_scores((found.n_rows, 16), IN_MEMORY)

    def write(start: int, part: Any) -> None:
        backend.encoded_scores(part, axes, Z[start : start + len(part.dense)])

    scores, _ = timed(backend.xp, lambda: list(rows.map(write, last=True)))
    n_bytes = 4 * found.n_rows * encoder.n_features
    return {
        "rows": found.n_rows, "read_and_moments": covariance, "scores": scores,
        "gb_of_matrix_per_second": n_bytes / (covariance + scores) / 1e9,
    }  # fmt: skip


def job(section: Section, setting: Setting) -> None:
    """Table to run directory: clusters only, then with the map and everything else."""
    table = members(setting)
    warm = write_demo(setting.folder / "warm", WARM_ROWS).members
    found: dict[str, Any] = {}

    def once(device: str, skip: list[str], source: Any = table) -> dict[str, Any]:
        config, out = FitConfig.merge({}, skip=skip), setting.folder / f"job-{device}"
        start = time.perf_counter()
        run = fit(
            source, out=out, id="user_id", n_clusters=12, device=device, config=config, overwrite=True
        )  # fmt: skip
        seconds = time.perf_counter() - start
        found[device] = run.assignments["cluster"].to_numpy()
        stages = {one["stage"]: one["seconds"] for one in run.manifest["stages"]}
        return {"rows": len(found[device]), "reader": run.manifest["reader"], "seconds": seconds, "stages": stages}

    def equal() -> dict[str, Any]:
        return {"equal_labels": float((found["cuda"] == found["cpu"]).mean())}

    for name, skip in (("clusters only", LEAN), ("everything", setting.pick([], LEAN))):
        for device in BOTH:
            once(device, skip, warm)
        for device in BOTH:
            section.case(f"{name}, {device}", lambda device=device, skip=skip: once(device, skip))
        section.case(f"{name}, labels on both", equal)


def sanitizer(section: Section, setting: Setting) -> None:
    section.case("memcheck", lambda: memcheck(setting))


def memcheck(setting: Setting) -> dict[str, Any]:
    """Run the comparisons on small shapes under compute-sanitizer."""
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
            os.killpg(process.pid, signal.SIGKILL)  # the tool, and what it runs
    agreed = agree.passed(Report(out).read().get("agreement", {}))
    return {"status": process.returncode, "clean": process.returncode == 0, "agreed": agreed, "tail": output[-1500:]}
