"""Rules and trees: what they cost beside the run, how good they are, and ExKMC's trees at the same number of leaves."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from machine import describe_machine

import engine
from engine.explain.questions import questions_of
from engine.explain.tree import grow
from engine.explain.words import Vocabulary
from engine.sampling import sample_rows
from engine.tables.demo import N_COMMUNITIES, write_demo

HERE = Path(__file__).parent
ROWS = [int(rows) for rows in os.environ.get("ROOMS_BENCH_EXPLAIN_ROWS", "1000000").split(",")]
DATA = Path(os.environ.get("ROOMS_SHARED_DATA", HERE.parents[1] / "shared" / "data"))
TREE_ROWS, UNSEEN_ROWS = 1500, 5000  # ExKMC's cuts are searched in Python where its C sources do not compile


def quality(run: engine.Run) -> dict[str, Any]:
    """Return the figures of a run's rules; clusters without a rule count as covered by none."""
    rules = run.rules
    found = [c for c in rules["clusters"] if c["rules"]]
    every = len(rules["clusters"])

    def mean(name: str) -> float:
        return round(float(np.mean([c[name] for c in found if c[name] is not None])), 4)

    return {
        "rows": run.manifest["rows"],
        "clusters": every,
        "clusters_with_rules": len(found),
        "clusters_with_precise_rules": sum(c["precise"] for c in found),
        "mean_precision": mean("precision"),
        "mean_coverage": round(sum(c["coverage"] for c in found) / every, 4),
        "mean_precision_unseen": mean("precision_unseen"),
        "mean_coverage_unseen": mean("coverage_unseen"),
        "rules_a_cluster": round(sum(len(c["rules"]) for c in found) / every, 2),
        "conditions_a_rule": round(float(np.mean([len(r["conditions"]) for c in found for r in c["rules"]])), 2),
        "overview_fidelity": rules["overview"]["fidelity"],
        "overview_unnamed": len(rules["overview"]["unnamed"]),
        "full_leaves": rules["full"]["leaves"],
        "full_fidelity": rules["full"]["fidelity"],
        "full_fidelity_unseen": rules["full"]["fidelity_unseen"],
        "community_persona": next([p["name"], *p["sentences"]] for p in run.personas if p["community"]),
    }


def seconds(run: engine.Run) -> dict[str, float]:
    return {stage["stage"]: stage["seconds"] for stage in run.manifest["stages"]}


def save(name: str, report: Any) -> None:
    path = HERE / "results" / "explain.json"
    document = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(document | {"machine": describe_machine(), name: report}, indent=1) + "\n")


@pytest.mark.parametrize("rows", ROWS)
def test_explaining_the_demo(benchmark: Any, rows: int, tmp_path: Path) -> None:
    demo = write_demo(tmp_path, rows)
    runs = []

    def fit() -> None:
        run = engine.fit(demo.members, out=tmp_path / "run", id="user_id", n_clusters=N_COMMUNITIES, overwrite=True)
        runs.append(seconds(run))

    fit()  # loads code and compiled kernels
    runs.clear()
    benchmark.pedantic(fit, rounds=3)
    shares = [stages["explain"] / sum(stages.values()) for stages in runs]
    report = quality(engine.Run(tmp_path / "run")) | {
        "stages_seconds": runs,
        "explain_share_of_run": round(float(np.median(shares)), 3),
    }
    save(f"demo_{rows}", report)
    assert report["mean_precision"] >= 0.9
    assert report["mean_coverage"] >= 0.7


def test_explaining_the_real_tables(benchmark: Any, tmp_path: Path) -> None:
    if not DATA.is_dir():
        pytest.skip(f"the real tables are not at {DATA}")
    profiles = tmp_path / "profiles.parquet"
    movies = DATA / "ml-100k"
    engine.profiles_from_ratings(movies / "u.data", movies / "u.item", movies / "u.user", out=profiles)
    tables = {
        "movielens_100k": (profiles, "user_id", 20),
        "developer_survey": (DATA / "developer_survey_2017.csv.gz", "Respondent", 6),
        "health_survey": (DATA / "health_survey_2015.csv.gz", None, 8),
    }

    def fit() -> None:
        for name, (source, id, k) in tables.items():
            run = engine.fit(source, out=tmp_path / name, id=id, n_clusters=k, overwrite=True)
            save(name, quality(run) | {"stages_seconds": seconds(run)})

    benchmark.pedantic(fit, rounds=1)


def test_fidelity_beside_exkmc(benchmark: Any, tmp_path: Path) -> None:
    exkmc = pytest.importorskip(
        "ExKMC.Tree", reason="ExKMC 0.0.3 (2021) ships C sources that Python 3.11 cannot compile"
    )
    demo = write_demo(tmp_path, 50_000)
    run = engine.fit(demo.members, out=tmp_path / "run", id="user_id", n_clusters=N_COMMUNITIES)
    model, members = run.model, pq.read_table(demo.members)
    labels = run.assignments["cluster"].to_numpy().astype(np.int32)
    rows = sample_rows(len(labels), TREE_ROWS + UNSEEN_ROWS, seed=1)
    unseen = np.arange(len(rows)) % ((TREE_ROWS + UNSEEN_ROWS) / TREE_ROWS) >= 1
    X, y, table = model.encoder.encode(members.take(rows)), labels[rows], members.take(rows)
    words = Vocabulary.of(table.schema, model.encoder.columns, {}, {})
    questions, answers = questions_of(model.encoder.plan, table.filter(~unseen), words)
    asked = questions.answer(table.filter(unseen))
    centres = model.pca.inverse_transform(model.centres)
    report = []

    def compare() -> None:
        for leaves in (N_COMMUNITIES, 2 * N_COMMUNITIES, 4 * N_COMMUNITIES):
            start = time.perf_counter()
            mine = grow(answers, y[~unseen], np.ones(int((~unseen).sum())), max_leaves=leaves)
            middle = time.perf_counter()
            known = SimpleNamespace(n_clusters=N_COMMUNITIES, cluster_centers_=centres, predict=lambda rows: y[~unseen])
            peer = exkmc.Tree(k=N_COMMUNITIES, max_leaves=leaves).fit(X[~unseen].astype(np.float64), known)
            end = time.perf_counter()
            report.append(
                {
                    "leaves": leaves,
                    "fidelity": round(float((mine.predict(asked) == y[unseen]).mean()), 4),
                    "exkmc_fidelity": round(float((peer.predict(X[unseen]) == y[unseen]).mean()), 4),
                    "seconds": round(middle - start, 3),
                    "exkmc_seconds": round(end - middle, 3),
                }
            )

    benchmark.pedantic(compare, rounds=1)
    save("beside_exkmc", {"grown_on_rows": int((~unseen).sum()), "unseen_rows": int(unseen.sum()), "trees": report})
    # With one leaf a cluster ExKMC, which sees the centres, is ahead; from two leaves a cluster on it is not.
    assert all(row["fidelity"] >= row["exkmc_fidelity"] for row in report if row["leaves"] > N_COMMUNITIES)
