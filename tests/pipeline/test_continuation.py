"""What decides between the clusters of the previous run and new ones, and what a fit of the same people moves."""

import numpy as np
import pyarrow as pa
import pytest

import engine
from engine.kmeans.lloyd import Clustering
from engine.lineage.history import History
from engine.pipeline.continuation import GAIN_PER_MOVE, Contest

N = 1000
TAKEOVER = 0.005


def contest(gain: float, moved: float, *, max_moved: float | None = None, dead: bool = False) -> Contest:
    """Return a contest whose challenger has `gain` less inertia than the champion and moves the share `moved`."""
    earlier = np.repeat(np.arange(4, dtype=np.int32), N // 4)
    labels = earlier.copy()
    # People go to the next cluster in equal parts, so that every cluster keeps its number by its majority.
    for cluster in range(4):
        leaving = np.flatnonzero(earlier == cluster)[: round(moved * N / 4)]
        labels[leaving] = (cluster + 1) % 4
    centers = np.arange(8, dtype=np.float32).reshape(4, 2)
    champion = Clustering(centers, earlier, 100.0, 1, ())
    challenger = Clustering(centers + 1, labels, 100.0 * (1.0 - gain), 1, ())
    nearest = Clustering(
        centers, np.where(earlier == 0, 1, earlier).astype(np.int32) if dead else earlier, 100.0, 0, ()
    )
    return Contest(
        np.zeros((N, 2), np.float32), centers, np.full(4, 0.25), earlier,
        cluster=lambda rows, k, init: challenger if init is None else champion,
        fix=lambda given: nearest, takeover=TAKEOVER, max_moved=max_moved, max_moved_anew=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gain", "moved", "chosen"),
    [
        (0.004, 0.0, "champion"),
        (0.006, 0.0, "challenger"),
        (0.006, 0.08, "challenger"),
        (0.006, 0.34, "champion"),
        (0.016, 0.34, "champion"),
        (0.018, 0.34, "challenger"),
        (-0.1, 0.0, "champion"),
    ],
)
def test_new_clusters_have_to_gain_the_more_the_more_people_they_move(gain, moved, chosen):
    assert GAIN_PER_MOVE == 0.05
    continuation = contest(gain, moved).decide(4, None)
    assert continuation.facts["chosen"] == chosen
    if gain > TAKEOVER:
        assert continuation.facts["challenger_moved"] == pytest.approx(moved)


def test_a_cluster_that_died_lets_new_ones_move_people_for_nothing():
    assert contest(0.0, 0.34, dead=True).decide(4, None).facts["chosen"] == "challenger"
    assert contest(-0.001, 0.34, dead=True).decide(4, None).facts["chosen"] == "champion"


def test_a_bound_goes_before_a_gain():
    assert contest(0.5, 0.34, max_moved=0.2).decide(4, None).facts["chosen"] == "champion"


@pytest.mark.parametrize("draw", [0, 2])
def test_people_stay_where_clusters_are_arbitrary(tmp_path, draw):
    # Without groups, K-Means has many optima of nearly the same inertia, and each cold fit finds another one.
    rng = np.random.default_rng(draw)
    values = rng.uniform(size=(2400, 6))
    names = [f"answer_{number}" for number in range(6)]
    previous = None
    for night in range(4):
        rows = np.arange(40 * night, 40 * night + 2000)
        table = pa.table({"person": rows, **{name: values[rows, i] for i, name in enumerate(names)}})
        out = tmp_path / str(night)
        options = {"previous": str(previous)} if previous else {}
        run = engine.fit(
            table,
            id="person",
            out=out,
            skip=["explain", "map", "report"],
            config={"kmeans": {"n_clusters": 8}},
            **options,
        )
        if previous:
            last = History.read(run).nights[-1]
            assert last.stayed == 1960
            assert last.moved <= 0.03 * last.stayed
        previous = out
