"""Which library computes each stage of a fit: cuML where it can, our own where it is asked for or cuML cannot."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import engine
from engine.backends import gpu
from engine.backends.cpu import CpuBackend
from engine.backends.gpu import GpuBackend, GpuProbe
from engine.config import FitConfig
from engine.errors import ConfigError, DeviceNotAvailableError, OutOfResourcesError, UsageError
from engine.pipeline.checkpoints import Checkpoints
from engine.pipeline.dry_run import estimate_fit
from engine.pipeline.stage_libraries import CONTINUED_MAP, StageLibraries
from tests.features.test_gpu_encoder import ROLES, everything
from tests.gpu import libraries
from tests.gpu.stand_in import stand_in_gpu

WITH_MAP = FitConfig.merge(
    {}, skip=["explain", "report"], features={"roles": ROLES}, map={"n_landmarks": 100, "max_iter": 250}
)
SETTINGS = WITH_MAP.model_copy(update={"skip": ("explain", "map", "report")})
OWN = {"pca": "CuPy", "kmeans": "CuPy", "assign": "CuPy"}


@pytest.fixture(autouse=True)
def rapids(monkeypatch: pytest.MonkeyPatch) -> Any:
    with stand_in_gpu(monkeypatch):
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "people.parquet"
    pq.write_table(everything(600).drop_columns(["price", "year"]), path)
    return path


def fit(source: Any, out: Path, **options: Any) -> engine.Run:
    return engine.fit(source, out=out, **{"n_clusters": 4, "config": SETTINGS, "device": "cuda"} | options)


def computed(run: engine.Run) -> dict[str, str]:
    return {stage: entry["library"] for stage, entry in run.manifest["computed_by"].items()}


def check_definition(run: engine.Run, source: Path) -> None:
    """Check that each row has the label of its nearest center, in float64."""
    model = engine.load(run.path)
    Z = model.scores(pq.read_table(source)).astype(np.float64)
    squared = np.square(Z[:, None] - model.centers.astype(np.float64)).sum(axis=2)
    np.testing.assert_array_equal(run.assignments["cluster"].to_numpy(), squared.argmin(axis=1))


def test_with_rapids_cudf_reads_and_cuml_computes_and_labels_are_those_of_the_definition(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        run = fit(source, tmp_path / "run", device="auto", config=WITH_MAP)
    expected = {"read": "cuDF", "statistics": "CuPy", "pca": "cuML", "kmeans": "cuML", "assign": "CuPy"}
    assert computed(run) == expected | {"tsne": "cuML"}
    assert run.manifest["computed_by"]["pca"]["reason"] == "the device is cuda, with cuML"
    assert "kmeans by cuML (the device is cuda, with cuML)" in caplog.text
    check_definition(run, source)
    ours = engine.load(fit(source, tmp_path / "ours", device="cpu").path)
    theirs = engine.load(run.path)
    np.testing.assert_allclose(theirs.pca.explained_variance_, ours.pca.explained_variance_, atol=1e-5)
    n = int((ours.pca.explained_variance_ > 0.05).sum())
    np.testing.assert_allclose(theirs.pca.components_[:n], ours.pca.components_[:n], atol=2e-3)


def test_a_reproducible_fit_has_the_bits_of_the_cpu_on_a_gpu_with_rapids(source: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"reproducible": True, "config": WITH_MAP}
    runs = [fit(source, tmp_path / device, device=device, **options) for device in ("cuda", "cpu")]
    assert computed(runs[0]) == {"statistics": "CuPy", "read": "cuDF", "tsne": "numba"} | OWN | {"pca": "numba"}
    results = [*runs[0].path.rglob("*.parquet"), *runs[0].path.rglob("*.safetensors"), runs[0].path / "map.png"]
    assert len(results) > 4
    for path in results:
        other = runs[1].path / path.relative_to(runs[0].path)
        assert path.read_bytes() == other.read_bytes(), path.name
    assert runs[0].manifest["computed_by"]["pca"]["reason"] == "the fit is reproducible"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "people.parquet"
    table = everything(600).drop_columns(["price", "year"])
    pq.write_table(table.append_column("number", pa.array(np.arange(600))), path)
    return path


def two_nights(people: Path, folder: Path, device: str, **options: Any) -> list[engine.Run]:
    """Fit with every stage, and once more, continuing the first run."""
    config = FitConfig.merge(WITH_MAP.model_dump(), skip=[], kmeans={"k_max": 5})
    options |= {"id": "number", "n_clusters": None, "config": config, "device": device}
    first = fit(people, folder / "first", **options)
    return [first, fit(people, folder / "second", previous=first.path, **options)]


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_two_whole_nights_on_a_gpu_have_every_stage(people: Path, tmp_path: Path, device: str) -> None:
    first, second = two_nights(people, tmp_path, device)
    by_cuml = {"pca", "kmeans", "tsne"}
    assert {stage for stage, library in computed(first).items() if library == "cuML"} == by_cuml
    assert {stage for stage, library in computed(first).items() if library == "numba"} == set()
    expected = {"library": "numba", "reason": CONTINUED_MAP}
    assert second.manifest["computed_by"]["tsne"] == expected
    settings = FitConfig.merge(WITH_MAP.model_dump(), skip=[], device=device, previous=str(first.path), id="number")
    assert estimate_fit(people, settings).facts()["computed_by"]["tsne"] == expected
    assert second.manifest["map"]["previous"] == str(first.path)
    for run in (first, second):
        check_definition(run, people)
        assert run.manifest["device"] == "cuda"
        assert {"report.html", "rules.json", "map.parquet"} <= {path.name for path in run.path.iterdir()}
        again = engine.load(run.path).assign(people, place=True)
        for name in ("number", "cluster", "distance", "runner_up"):
            assert again[name].equals(run.assignments[name]), name


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_two_whole_reproducible_nights_have_the_bits_of_the_cpu(people: Path, tmp_path: Path, device: str) -> None:
    ours = two_nights(people, tmp_path / device, device, reproducible=True)
    theirs = two_nights(people, tmp_path / "cpu", "cpu", reproducible=True)
    for run, other in zip(ours, theirs, strict=True):
        assert "cuML" not in computed(run).values()
        paths = {path.relative_to(run.path) for path in run.path.rglob("*") if path.is_file()}
        assert paths == {path.relative_to(other.path) for path in other.path.rglob("*") if path.is_file()}
        same = {path for path in paths if (run.path / path).read_bytes() == (other.path / path).read_bytes()}
        gates = [(one.path / "gate.json") for one in (run, other)]
        if gates[0].exists():
            assert gates[0].read_text().replace(str(tmp_path / device), str(tmp_path / "cpu")) == gates[1].read_text()
        # These name paths, times, and who computed.
        naming = {"manifest.json", "config.yaml", "report.html", "lineage.json", "gate.json"}
        assert {str(path) for path in paths - same} <= naming


def test_our_own_algorithms_can_be_named(source: Path, tmp_path: Path) -> None:
    run = fit(source, tmp_path / "run", algorithm="lloyd")
    assert {stage: computed(run)[stage] for stage in OWN} == OWN
    assert run.manifest["computed_by"]["kmeans"]["reason"] == "it was asked for"


def out_of_memory(*_: Any, **__: Any) -> None:
    raise MemoryError("std::bad_alloc: out_of_memory")


@pytest.mark.parametrize(("stage", "name"), [("pca", "PCA"), ("kmeans", "KMeans")])
def test_where_cuml_has_not_the_memory_our_own_computes_or_the_fit_fails_if_cuml_is_named(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stage: str,
    name: str,
) -> None:
    monkeypatch.setattr(getattr(libraries, name), "fit", out_of_memory)
    with caplog.at_level(logging.WARNING):
        run = fit(source, tmp_path / "run")
    other = "kmeans" if stage == "pca" else "pca"
    assert (computed(run)[stage], computed(run)[other]) == ("CuPy", "cuML")
    assert "ran out of GPU memory: std::bad_alloc" in run.manifest["computed_by"][stage]["reason"]
    assert "Not cuML, but CuPy computes" in caplog.text
    check_definition(run, source)
    with pytest.raises(OutOfResourcesError, match=rf"{stage}\.algorithm=cuml cannot be used: cuML's .* GPU memory"):
        fit(source, tmp_path / "named", algorithm="cuml")


@pytest.mark.parametrize(("name", "done"), [("PCA", set()), ("KMeans", {"pca"})])
def test_after_an_error_of_cuml_auto_goes_on_on_the_cpu_and_the_manifest_says_who_did_what(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    done: set[str],
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error encountered at raft.cuh\nObtained 7 stack frames")

    monkeypatch.setattr(getattr(libraries, name), "fit", fail)
    with caplog.at_level(logging.WARNING):
        run = fit(source, tmp_path / "run", device="auto")
    assert {stage for stage, library in computed(run).items() if library == "cuML"} == done
    assert computed(run)["kmeans"] == "numba"
    assert "Continuing on the CPU from the last checkpoint, because the GPU failed: cuML's" in caplog.text
    check_definition(run, source)
    for options in ({"device": "cuda"}, {"device": "auto", "algorithm": "cuml"}):
        with pytest.raises(OutOfResourcesError, match=r"failed: cuML's .* failed: CUDA error"):
            fit(source, tmp_path / "named", **options)


def test_with_cupy_alone_our_own_computes_and_cuml_cannot_be_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries.clear_gpu_caches()
    libraries.install(monkeypatch, rapids=False)
    run = fit(source, tmp_path / "run")
    assert computed(run) == OWN | {"read": "pyarrow", "statistics": "numba"}
    reasons = {stage: entry["reason"] for stage, entry in run.manifest["computed_by"].items()}
    assert (reasons["read"], reasons["pca"]) == ("pylibcudf, cudf cannot be found", "cuml cannot be found")
    with pytest.raises(DeviceNotAvailableError, match=r"pca\.algorithm=cuml was asked for, but cuml cannot be found"):
        fit(source, tmp_path / "named", algorithm="cuml")
    assert not (tmp_path / "named").exists()


def test_cuml_cannot_be_named_without_a_gpu_and_an_interrupted_run_is_not_lost(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / ".run.staging" / "checkpoints" / "job"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"of an interrupted run")
    monkeypatch.setattr(gpu, "probe", lambda: GpuProbe(False, "no NVIDIA driver was found"))
    with pytest.raises(DeviceNotAvailableError, match="but the device is cpu, because no NVIDIA driver") as caught:
        fit(source, tmp_path / "run", device="auto", algorithm="cuml")
    assert caught.value.exit_code == 4
    with pytest.raises(UsageError, match="and device 'cpu' was asked for"):
        fit(source, tmp_path / "run", device="cpu", algorithm="cuml")
    assert checkpoint.exists()


def test_what_contradicts_itself_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pca\.algorithm=cuml does not give the same bits every time"):
        fit(source, tmp_path / "run", algorithm="cuml", reproducible=True)
    with pytest.raises(UsageError, match="algorithm='elkan' is not one of auto, lloyd, cuml"):
        fit(source, tmp_path / "run", algorithm="elkan")
    with_workers = FitConfig.merge(SETTINGS.model_dump(), pca={"algorithm": "cuml"}, cluster={"workers": 2})
    with pytest.raises(UsageError, match="runs in one process, without workers"):
        StageLibraries(with_workers, GpuBackend(), "cuda, as asked")


@pytest.mark.parametrize(
    ("changes", "backend", "expected"),
    [
        ({}, "cpu", ("numba", "the device is cpu")),
        ({"cluster": {"workers": 2}}, "cuda", ("CuPy", "workers share the rows")),
        ({"cluster": {"workers": 2}, "kmeans": {"algorithm": "cuml"}}, "cuda", ("cuML", "it was asked for")),
        ({"reproducible": True}, "cuda", ("CuPy", "the fit is reproducible")),
    ],
)
def test_the_reason_for_the_library_of_k_means(
    changes: dict[str, Any], backend: str, expected: tuple[str, str]
) -> None:
    settings = FitConfig.merge(SETTINGS.model_dump(), **changes)
    chosen = StageLibraries(settings, CpuBackend() if backend == "cpu" else GpuBackend(), backend)
    assert chosen["kmeans"] == expected


def test_the_dry_run_says_which_library_would_compute_each_stage(source: Path) -> None:
    settings = FitConfig.merge(WITH_MAP.model_dump(), device="cuda", kmeans={"n_clusters": 4, "algorithm": "lloyd"})
    estimate = estimate_fit(source, settings)
    libraries_of = {stage: entry["library"] for stage, entry in estimate.facts()["computed_by"].items()}
    assert libraries_of == OWN | {"read": "cuDF", "statistics": "CuPy", "pca": "cuML", "tsne": "cuML"}
    assert "computed: statistics by CuPy" in estimate.describe().replace("read by cuDF (the device is cuda), ", "")


def test_a_lloyd_checkpoint_is_continued_by_lloyd(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Checkpoints.save
    once = FitConfig.merge(SETTINGS.model_dump(), kmeans={"n_init": 1})  # the best of several seedings moves no more

    def save_and_stop(checkpoints: Checkpoints, stage: str, *contents: Any) -> None:
        save(checkpoints, stage, *contents)
        if stage == "k-means":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            fit(source, tmp_path / "run", device="cpu", config=once)
    run = fit(source, tmp_path / "run", device="cuda", config=once, resume=True)
    assert run.manifest["computed_by"]["pca"] == {"library": "numba", "reason": "the device is cpu"}
    assert run.manifest["computed_by"]["kmeans"] == {"library": "CuPy", "reason": "it continues from a checkpoint"}


def test_the_manifest_says_what_compared_the_ids_and_counted_the_rules(tmp_path: Path) -> None:
    ids = {"number": pa.array(np.arange(600)), "text": pa.array([f"p{i}" for i in range(600)])}
    for id, values in ids.items():
        table = everything(600).drop_columns(["price", "year"]).append_column(id, values)
        pq.write_table(table, tmp_path / f"{id}.parquet")
    explained = FitConfig.merge(SETTINGS.model_dump(), skip=["map", "report"])
    by = {
        id: fit(tmp_path / f"{id}.parquet", tmp_path / id, id=id, config=explained).manifest["computed_by"]
        for id in ids
    }
    assert by["number"]["ids"] == {"library": "CuPy", "reason": "the device is cuda"}
    assert by["text"]["ids"]["library"] == "numba"
    assert "'text' is not read there" in by["text"]["ids"]["reason"]
    assert by["number"]["rules"]["library"] == "CuPy"
    settings = FitConfig.merge(explained.model_dump(), id="number", device="cuda", kmeans={"n_clusters": 4})
    foretold = estimate_fit(tmp_path / "number.parquet", settings).facts()["computed_by"]
    assert foretold["ids"] == by["number"]["ids"]
