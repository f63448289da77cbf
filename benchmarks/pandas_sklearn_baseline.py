"""The same job by hand: what one would write with pandas and scikit-learn to cluster a table of members.

    MEMBERS (Parquet)  ->  impute, log1p, standardise, one-hot, multi-hot  ->  PCA  ->  K-Means  ->  OUT (id, cluster)

Written as one would for a single job that fits in memory: vectorised pandas, float32 once the numbers are scaled,
scikit-learn's defaults. Run by test_pipeline.py next to `rooms fit`; it knows nothing of the engine.

    python benchmarks/pandas_sklearn_baseline.py MEMBERS OUT.parquet --clusters 12 [--planted FOLDER]
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import MultiLabelBinarizer, StandardScaler

COUNTS = [
    *("weekly_hours", "sessions_per_week", "mean_session_minutes", "ratings_given"),
    *("downloads_per_month", "days_since_last_watch"),
]
NUMBERS = [
    *("age", "price_paid", "household_size", "completion_rate", "weekend_share", "night_share", "mobile_share"),
    *("binge_rate", "rewatch_share", "mean_rating", "new_release_share", "subtitles_share"),
]
FLAGS = ["has_kids_profile", "marketing_opt_in"]
CATEGORIES = ["gender", "country", "city_size", "language", "plan", "payment_method", "favourite_decade"]
LISTS = ["devices", "favourite_genres"]

seconds: dict[str, float] = {}


@contextmanager
def timed(stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - start, 3)


def encode(members: pd.DataFrame) -> np.ndarray:
    """Return the features, float32 of shape (n_members, n_features), of those columns that the table has."""
    counts, categories, flags, lists = (
        [column for column in columns if column in members] for columns in (COUNTS, CATEGORIES, FLAGS, LISTS)
    )
    numbers = members[[column for column in NUMBERS if column in members] + counts].astype("float64")
    numbers["tenure"] = (pd.Timestamp("2026-01-01") - pd.to_datetime(members["signup_date"])).dt.days
    for flag in flags:
        numbers[flag] = members[flag].astype("float64")
    numbers = numbers.fillna(numbers.median())
    numbers[counts] = np.log1p(numbers[counts])
    blocks = [StandardScaler().fit_transform(numbers).astype(np.float32)]

    filled = members[categories].fillna(members[categories].mode().iloc[0])
    blocks.append(pd.get_dummies(filled, dtype=np.float32).to_numpy())

    for column in lists:
        # None is a list that nobody filled in: no label.
        labels = members[column].map(lambda value: () if value is None else value)
        hot = MultiLabelBinarizer().fit_transform(labels).astype(np.float32)
        blocks.append(hot / np.maximum(np.linalg.norm(hot, axis=1, keepdims=True), 1.0))
    return np.hstack(blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("members", help="a Parquet file or a folder of them")
    parser.add_argument("out", help="Parquet file to write: user_id, cluster")
    parser.add_argument("--clusters", type=int, default=12)
    parser.add_argument("--components", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--planted", help="folder with the true communities, for the adjusted Rand index")
    chosen = parser.parse_args()

    with timed("read"):
        members = pd.read_parquet(chosen.members)
    with timed("encode"):
        features = encode(members)
    with timed("pca"):
        scores = PCA(n_components=chosen.components, random_state=chosen.seed).fit_transform(features)
    with timed("kmeans"):
        kmeans = KMeans(n_clusters=chosen.clusters, random_state=chosen.seed).fit(scores)
    with timed("write"):
        Path(chosen.out).parent.mkdir(parents=True, exist_ok=True)
        assigned = pd.DataFrame({"user_id": members["user_id"], "cluster": kmeans.labels_})
        assigned.to_parquet(chosen.out, index=False)

    report = {
        "rows": len(members),
        "features": features.shape[1],
        "components": scores.shape[1],
        "seconds": {**seconds, "total": round(sum(seconds.values()), 3)},
        "inertia": float(kmeans.inertia_),
        "iterations": int(kmeans.n_iter_),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    if chosen.planted:
        truth = pd.read_parquet(chosen.planted).merge(assigned, on="user_id", validate="one_to_one")
        report["adjusted_rand_index"] = round(adjusted_rand_score(truth["community"], truth["cluster"]), 4)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
