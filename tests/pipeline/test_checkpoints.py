"""Checkpoints: complete or absent, of one job, and damage is detected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config import FitConfig
from engine.errors import CheckpointNotReadableError, InputChangedError, UsageError
from engine.pipeline.checkpoints import JOB, Checkpoints, check_unchanged


def files(*sizes: int) -> dict[str, Any]:
    return {"rows": 3, "files": [{"path": f"part-{i}", "size": size, "changed": "x"} for i, size in enumerate(sizes)]}


def test_facts_and_arrays_come_back_to_the_bit(tmp_path: Path) -> None:
    centers = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    Checkpoints(tmp_path).save(
        "k-means", {"iteration": 3, "inertia": 0.1 + 0.2, "none": float("nan")}, {"centers": centers}
    )
    facts, arrays = Checkpoints(tmp_path).load("k-means") or ({}, {})
    assert (facts["iteration"], facts["inertia"]) == (3, 0.1 + 0.2)
    assert np.isnan(facts["none"])
    assert arrays["centers"].tobytes() == centers.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["k-means"]


def test_without_a_folder_nothing_is_saved() -> None:
    Checkpoints().save("pca", {})
    assert Checkpoints().load("pca") is None


def test_a_stage_is_made_once(tmp_path: Path) -> None:
    made: list[int] = []

    def load_or_make() -> int:
        return Checkpoints(tmp_path).load_or_make(
            "pca", lambda: made.append(1) or 7, lambda n: ({"n": n}, {}), lambda facts, _: facts["n"]
        )

    assert [load_or_make(), load_or_make()] == [7, 7]
    assert len(made) == 1


@pytest.mark.parametrize("offset", [0, 40, -1])
def test_a_damaged_checkpoint_is_noticed(tmp_path: Path, offset: int) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("pca", {"n": 7})
    content = bytearray((tmp_path / "pca").read_bytes())
    content[offset] ^= 1
    (tmp_path / "pca").write_bytes(content)
    with pytest.raises(CheckpointNotReadableError, match=r"pca is not what was written.*\nHint: start anew"):
        checkpoints.load("pca")
    (tmp_path / "pca").write_bytes(b"")
    with pytest.raises(CheckpointNotReadableError):
        checkpoints.load("pca")


def test_a_job_is_identified_by_its_settings_and_its_input(tmp_path: Path) -> None:
    settings = FitConfig.merge({}, seed=3, memory="1GiB")
    assert not Checkpoints(tmp_path).identify(settings, files(1, 2))
    assert Checkpoints(tmp_path).identify(settings, files(1, 2))
    assert Checkpoints(tmp_path).identify(FitConfig.merge({}, seed=3, memory="9GiB", device="cpu"), files(1, 2))
    with pytest.raises(UsageError, match="other settings: seed, kmeans differ"):
        Checkpoints(tmp_path).identify(FitConfig.merge({}, kmeans={"n_clusters": 5}), files(1, 2))
    with pytest.raises(InputChangedError, match="part-1 changed"):
        Checkpoints(tmp_path).identify(settings, files(1, 3))
    with pytest.raises(InputChangedError, match="part-2 changed"):
        Checkpoints(tmp_path).identify(settings, files(1, 2, 3))


def test_another_version_of_the_engine_cannot_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = FitConfig()
    Checkpoints(tmp_path).identify(settings, files(1))
    monkeypatch.setattr("engine.pipeline.checkpoints.version", lambda _: "99.0")
    with pytest.raises(UsageError, match=r"and this is 99.0"):
        Checkpoints(tmp_path).identify(settings, files(1))


def test_input_that_changes_under_way_is_named() -> None:
    check_unchanged(files(1), files(1))
    with pytest.raises(InputChangedError, match="part-0 changed"):
        check_unchanged(files(1), files(2))
    with pytest.raises(InputChangedError, match="it is another table"):
        check_unchanged({"rows": 3, "files": []}, {"rows": 4, "files": []})


def test_the_job_is_the_first_checkpoint(tmp_path: Path) -> None:
    Checkpoints(tmp_path).identify(FitConfig(), files(1))
    assert [path.name for path in tmp_path.iterdir()] == [JOB]
