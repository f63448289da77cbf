"""A fit that is stopped at any checkpoint, in any way, is resumed to the same files."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

import engine
from engine.config import FitConfig
from engine.datasets.demo_table import DemoPaths, write_demo
from engine.datasets.draw_members import SCHEMA
from engine.errors import CheckpointNotReadableError, InputChangedError, OutputExistsError, UsageError
from engine.pipeline import staging
from engine.pipeline.checkpoints import Checkpoints
from engine.pipeline.memory_plan import plan_memory

N = 3_000
NOT_SAME = {"manifest.json", "config.yaml", "report.html"}  # seconds, memory
WHOLE = FitConfig.merge({}, id="user_id", map={"n_landmarks": 150, "max_iter": 250, "place_all": True},
                         kmeans={"n_init": 2, "k_min": 2, "k_max": 5, "max_iter": 20, "tol": 0.0})  # fmt: skip
CLUSTERS = FitConfig.merge(WHOLE.model_dump(), skip=["explain", "map", "report"])


class StoppedError(BaseException):
    """Stops a fit as an interrupt does."""


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> DemoPaths:
    return write_demo(tmp_path_factory.mktemp("members"), N)


def streamed(settings: FitConfig) -> FitConfig:
    """Return the settings with a memory budget for which the table is just too large."""
    nothing_cached = settings.model_copy(update={"memory": 1})
    needed = plan_memory(N, SCHEMA, nothing_cached, streamed=True, n_features=130).memory_bytes
    return settings.model_copy(update={"memory": needed + 1000})


def contents(run: Path) -> dict[str, str]:
    files = [path for path in run.rglob("*") if path.is_file() and path.name not in NOT_SAME]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def staging_path(run: Path) -> Path:
    return run.parent / f".{run.name}.staging"


@pytest.fixture(scope="module")
def undisturbed(members: DemoPaths, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return contents(engine.fit(members.members, out=tmp_path_factory.mktemp("runs") / "run", config=WHOLE).path)


def test_streamed_is_the_same_to_the_bit(members: DemoPaths, undisturbed: dict[str, str], tmp_path: Path) -> None:
    run = engine.fit(members.members, out=tmp_path / "run", config=streamed(WHOLE))
    assert run.manifest["plan"]["kind"] == "streamed"
    assert contents(run.path) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("where", ["in memory", "streamed"])
def test_a_fit_stopped_after_every_checkpoint_ends_the_same(
    members: DemoPaths, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    settings = streamed(WHOLE) if where == "streamed" else WHOLE
    save, saved = Checkpoints.save, []

    def stop_after(self: Checkpoints, stage: str, *args: object) -> None:
        save(self, stage, *args)  # type: ignore[arg-type]
        saved.append(stage)
        raise StoppedError

    monkeypatch.setattr(Checkpoints, "save", stop_after)
    out = tmp_path / "run"
    for _ in range(40):
        try:
            run = engine.fit(members.members, out=out, config=settings, resume=True)
            break
        except StoppedError as error:
            notes = error.__notes__
        assert not out.exists()
    assert "continue with --resume" in notes[0]
    assert contents(run.path) == undisturbed
    stages = ["job", "ids", "features", "pca", "scores", "sweep", "k-means", "clusters", "map", "assign", "explain"]
    assert list(dict.fromkeys(saved)) == [stage for stage in stages if where == "streamed" or stage != "scores"]
    assert saved.count("sweep") == 4
    assert saved.count("k-means") >= 2  # two runs
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_temporary_files_of_an_interrupted_fit_are_not_counted_twice(
    members: DemoPaths, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, out = streamed(WHOLE), tmp_path / "run"
    needed = engine.fit(members.members, out=tmp_path / "whole", config=settings).manifest["plan"]["disk_bytes"]
    save = Checkpoints.save

    def stop_after_scores(self: Checkpoints, stage: str, *args: object) -> None:
        save(self, stage, *args)  # type: ignore[arg-type]
        if stage == "scores":
            raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", stop_after_scores)
        with pytest.raises(StoppedError):
            engine.fit(members.members, out=out, config=settings)
    work = staging_path(out) / "work"
    held = sum(path.stat().st_blocks * 512 for path in work.rglob("*") if path.is_file())
    assert held > needed // 4
    monkeypatch.setattr(staging, "free_disk_bytes", lambda _: needed - held)
    assert contents(engine.fit(members.members, out=out, config=settings, resume=True).path) == undisturbed


def command(settings: FitConfig, members: DemoPaths, out: Path, body: str, tmp_path: Path) -> list[str]:
    """Return a command line that runs `body` before `rooms fit --resume`."""
    config = tmp_path / "config.yaml"
    config.write_text(settings.to_yaml())
    arguments = ["rooms", "fit", str(members.members), "--config", str(config), "--out", str(out), "--resume"]
    code = f"import os, signal, sys, time; sys.argv = {arguments!r}\n{body}\nfrom engine.cli import main; main()"
    return [sys.executable, "-c", code]


STOP_AFTER = """
from engine.pipeline.checkpoints import Checkpoints
save = Checkpoints.save
def stop_after(self, stage, *args):
    save(self, stage, *args)
    if stage in {stages}:
        os.kill(os.getpid(), signal.{signal})
        time.sleep(20)  # the signal comes first
Checkpoints.save = stop_after
"""


def test_a_killed_process_leaves_what_another_one_resumes_from(
    members: DemoPaths, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "run"
    for stages in (["features"], ["scores"], ["k-means"], ["clusters"], ["assign"]):
        body = STOP_AFTER.format(stages=stages, signal="SIGKILL")
        done = subprocess.run(
            command(streamed(CLUSTERS), members, out, body, tmp_path), capture_output=True, text=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not out.exists()
        assert staging_path(out).is_dir()
    run = engine.fit(members.members, out=out, config=streamed(CLUSTERS), resume=True)
    resumed = contents(run.path)
    assert {name: undisturbed[name] for name in resumed if "part" not in name and name != "clusters.parquet"} == {
        name: digest for name, digest in resumed.items() if "part" not in name and name != "clusters.parquet"
    }
    again = engine.fit(members.members, out=tmp_path / "again", config=CLUSTERS)
    assert contents(again.path) == resumed
    assert [path.name for path in out.parent.iterdir()] == ["run"]


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_ends_a_fit_soon_with_a_hint_to_resume(
    members: DemoPaths, tmp_path: Path, number: str, code: int
) -> None:
    out = tmp_path / "runs" / "run"
    body = STOP_AFTER.format(stages=["k-means"], signal=number) + "print('k-means', time.time(), flush=True)"
    body = body.replace("os.kill(", "print(time.time(), flush=True); os.kill(")
    done = subprocess.run(command(CLUSTERS, members, out, body, tmp_path), capture_output=True, text=True, check=False)
    ended = time.time()
    assert done.returncode == code, done.stderr
    assert ended - float(done.stdout.split()[-1]) < 5
    assert f"continue with --resume, or delete {staging_path(out)}" in done.stderr
    assert not out.exists()
    assert sum(path.stat().st_size for path in staging_path(out).rglob("*") if path.is_file()) < 1 << 21
    run = engine.fit(members.members, out=out, config=CLUSTERS, resume=True)
    assert "k-means" in {stage["stage"] for stage in run.manifest["stages"]}
    assert "statistics" not in {stage["stage"] for stage in run.manifest["stages"]}


def test_a_signal_ends_the_workers_too(members: DemoPaths, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    settings = FitConfig.merge(CLUSTERS.model_dump(), cluster={"workers": 2})
    out = tmp_path / "runs" / "run"
    body = "import psutil\n" + STOP_AFTER.format(stages=["pca"], signal="SIGTERM")
    print_pids = "print(*[child.pid for child in psutil.Process().children(recursive=True)], flush=True)"
    body = body.replace("os.kill(", f"{print_pids}; os.kill(")
    done = subprocess.run(command(settings, members, out, body, tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 143, done.stderr
    assert done.stderr.splitlines()[-2] == "error: Terminated."
    assert f"continue with --resume, or delete {staging_path(out)}" in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith(("Traceback", "  File", "  warnings"))]
    started = {int(pid) for pid in done.stdout.splitlines()[-1].split()}
    assert len(started) >= 2
    until = time.time() + 5
    while alive := started & set(psutil.pids()):
        assert time.time() < until, alive
        time.sleep(0.1)
    run = engine.fit(members.members, out=out, config=CLUSTERS, resume=True)
    assert "statistics" not in {stage["stage"] for stage in run.manifest["stages"]}


@pytest.fixture
def stopped(members: DemoPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the target of a fit that was stopped once it had components."""
    copy = tmp_path / "members.parquet"
    pq.write_table(pq.read_table(members.members), copy)
    with monkeypatch.context() as patched:
        save = Checkpoints.save

        def stop(self: Checkpoints, stage: str, *args: object) -> None:
            save(self, stage, *args)  # type: ignore[arg-type]
            if stage == "pca":
                raise StoppedError

        patched.setattr(Checkpoints, "save", stop)
        with pytest.raises(StoppedError):
            engine.fit(copy, out=tmp_path / "run", config=CLUSTERS)
    return tmp_path / "run"


def test_input_that_changed_is_detected(stopped: Path) -> None:
    copy = stopped.parent / "members.parquet"
    before = pq.read_table(copy)
    pq.write_table(before.slice(1), copy)
    with pytest.raises(InputChangedError, match=r"members\.parquet changed"):
        engine.fit(copy, out=stopped, config=CLUSTERS, resume=True)
    assert staging_path(stopped).is_dir()  # the file may come back


def test_other_settings_cannot_resume(stopped: Path) -> None:
    with pytest.raises(UsageError, match="other settings: seed differ"):
        engine.fit(stopped.parent / "members.parquet", out=stopped, config=CLUSTERS, seed=5, resume=True)
    run = engine.fit(stopped.parent / "members.parquet", out=stopped, config=CLUSTERS, memory="8GiB", resume=True)
    assert "pca" not in {stage["stage"] for stage in run.manifest["stages"]}


def test_a_damaged_checkpoint_is_detected(stopped: Path) -> None:
    path = staging_path(stopped) / "checkpoints" / "pca"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(CheckpointNotReadableError, match=r"pca is not what was written"):
        engine.fit(stopped.parent / "members.parquet", out=stopped, config=CLUSTERS, resume=True)


def test_without_resume_a_fit_starts_anew(stopped: Path) -> None:
    run = engine.fit(stopped.parent / "members.parquet", out=stopped, config=CLUSTERS)
    assert "pca" in {stage["stage"] for stage in run.manifest["stages"]}
    assert not staging_path(stopped).exists()


def test_resume_without_checkpoints_is_logged(
    members: DemoPaths, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "engine"):
        engine.fit(members.members, out=tmp_path / "run", config=CLUSTERS, resume=True)
    assert "There is no interrupted run to continue: starting from the beginning." in caplog.messages


def test_bad_data_leaves_nothing_to_resume_from(members: DemoPaths, tmp_path: Path) -> None:
    table = pq.read_table(members.members)
    pq.write_table(table.slice(0, 5), tmp_path / "five.parquet")
    with pytest.raises(engine.errors.RoomsError):
        engine.fit(tmp_path / "five.parquet", out=tmp_path / "run", config=CLUSTERS, n_clusters=12)
    assert [path.name for path in tmp_path.iterdir()] == ["five.parquet"]


def test_a_data_frame_cannot_be_resumed(members: DemoPaths, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Only a fit of files"):
        engine.fit(pq.read_table(members.members), out=tmp_path / "run", config=CLUSTERS, resume=True)


def test_two_processes_do_not_make_one_run(members: DemoPaths, tmp_path: Path) -> None:
    body = "from engine.pipeline.checkpoints import Checkpoints\n"
    body += "Checkpoints.save = lambda *a: (print('x', flush=True), time.sleep(60))"
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(CLUSTERS, members, out, body, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(OutputExistsError, match="Another process is writing"):
        engine.fit(members.members, out=out, config=CLUSTERS)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert engine.fit(members.members, out=out, config=CLUSTERS).path == out
