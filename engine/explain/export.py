"""Write an explanation into a run directory: rules.json, rules.sql, features.json, personas.json and personas.md."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.explain.binning.predicates import YES
from engine.explain.export_sql import to_sql
from engine.explain.feature_table import feature_table
from engine.explain.personas.effect_sizes import EffectSize
from engine.explain.personas.persona import Persona
from engine.explain.personas.phrases import feature_title, format_value
from engine.explain.personas.profile import ProfileRow
from engine.explain.rules.conditions import Condition, rule_words
from engine.explain.rules.decision_tree import LEAF
from engine.explain.rules.explanation import EvaluatedTree, Explanation
from engine.features.encoding_plan import EncodingPlan
from engine.utils.domain_words import DomainWords
from engine.utils.formatting import format_iso_day

FORMAT = 1  # of the JSON files, but of rules.json
RULES_FORMAT = 2  # since rules have points
Numbers = NDArray[np.int32]


def write_explanation(
    folder: Path,
    explanation: Explanation,
    personas: Sequence[Persona],
    effect_sizes: Sequence[Sequence[EffectSize]],
    plan: EncodingPlan,
    schema: pa.Schema,
    id: str | None,
    min_people: int,
    numbers: Numbers,
    words: DomainWords,
) -> None:
    """Write rules, features and personas into a folder, as JSON, SQL and Markdown; clusters have these `numbers`."""
    personas = [replace(persona, cluster=int(numbers[persona.cluster])) for persona in personas]
    rules = _rules_document(explanation, personas, min_people, numbers)
    _write_json(folder / "rules.json", rules)
    (folder / "rules.sql").write_text(to_sql(rules, plan, schema, id), encoding="utf-8")
    facts = {"format": FORMAT, "min_people": min_people, "sampled_rows": explanation.n_sampled}
    sizes = np.array([persona.size for persona in personas], np.int64)
    table = feature_table(effect_sizes, sizes, min_people, explanation.column_importance, words)
    _write_json(folder / "features.json", {**facts, "clusters": numbers.tolist(), "features": table})
    _write_json(
        folder / "personas.json", {**facts, "personas": [_persona_document(p, min_people, words) for p in personas]}
    )
    (folder / "personas.md").write_text(
        _to_markdown(personas, explanation.n_sampled, min_people, words), encoding="utf-8"
    )


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _rules_document(
    explanation: Explanation, personas: Sequence[Persona], min_people: int, numbers: Numbers
) -> dict[str, Any]:
    overview_tree = explanation.overview.tree
    named = {int(numbers[overview_tree.label[leaf]]) for leaf in overview_tree.leaves}

    def tree(evaluated: EvaluatedTree) -> dict[str, Any]:
        return _node_document(explanation, evaluated, 0, min_people, numbers)

    clusters = []
    for persona, rules in zip(personas, explanation.clusters, strict=True):
        clusters.append(
            {
                "cluster": persona.cluster,
                "name": persona.name,
                "users": persona.size,
                "precise": rules.precise,
                "precision": round(rules.precision, 4),
                "coverage": round(rules.coverage, 4),
                "matched": rules.n_matched,
                "precision_unseen": _finite(rules.on_unseen[0]),
                "coverage_unseen": _finite(rules.on_unseen[1]),
                "rules": [
                    {
                        "words": rule_words(rule.conditions, rule.points, rule.needed),
                        "points_needed": rule.needed,
                        "conditions": [
                            {"words": condition.words(), "points": points, **condition_document(condition)}
                            for condition, points in zip(rule.conditions, rule.points, strict=True)
                        ],
                        "precision": round(rule.precision, 4),
                        "coverage": round(rule.coverage, 4),
                        "users": rule.n_correct,
                        "matched": rule.n_matched,
                    }
                    for rule in rules.rules
                ],
            }
        )
    overview = {
        "unnamed": [p.cluster for p in personas if p.size and p.cluster not in named],
        "tree": tree(explanation.overview),
    }
    return {
        "format": RULES_FORMAT,
        "sampled_rows": explanation.n_sampled,
        "unseen_rows": explanation.n_unseen,
        "clusters": clusters,
        "overview": {**_fidelity(explanation.overview), **overview},
        "short": {**_fidelity(explanation.short), "tree": tree(explanation.short)},
        "full": {**_fidelity(explanation.full), "tree": tree(explanation.full)},
    }


def _fidelity(evaluated: EvaluatedTree) -> dict[str, Any]:
    return {
        "leaves": len(evaluated.tree.leaves),
        "fidelity": round(evaluated.fidelity, 4),
        "fidelity_unseen": round(evaluated.fidelity_unseen, 4),
    }


def _node_document(
    explanation: Explanation, evaluated: EvaluatedTree, node: int, min_people: int, numbers: Numbers
) -> dict[str, Any]:
    tree = evaluated.tree
    if tree.predicate[node] == LEAF:
        label, n_matched = int(tree.label[node]), int(evaluated.counts[node].sum())
        n_correct = int(evaluated.counts[node][label])
        if n_correct < min_people:
            return {"cluster": int(numbers[label])}
        return {
            "cluster": int(numbers[label]),
            "matched": n_matched,
            "users": n_correct,
            "precision": round(n_correct / n_matched, 4),
        }
    predicate, threshold = int(tree.predicate[node]), int(tree.bin_threshold[node])
    # A predicate of two bins is stated positively: "plan is Premium", never "plan is not Premium".
    yes, no, bin_range = (tree.left, tree.right, (0, threshold))
    if explanation.predicates[predicate].n_bins == 2:
        yes, no, bin_range = (tree.right, tree.left, (YES, YES))
    (condition,) = explanation.conditions({predicate: bin_range})
    return {
        "if": condition.words(),
        "condition": condition_document(condition),
        "then": _node_document(explanation, evaluated, int(yes[node]), min_people, numbers),
        "else": _node_document(explanation, evaluated, int(no[node]), min_people, numbers),
    }


def condition_document(condition: Condition) -> dict[str, Any]:
    """Return a condition for programs: at_least and below for numbers and dates, holds for everything else."""
    predicate = condition.predicate
    document: dict[str, Any] = {"column": predicate.column, "kind": predicate.kind}
    if predicate.thresholds:
        for key, bound in (("at_least", condition.at_least), ("below", condition.below)):
            if bound is not None:
                is_day = predicate.kind == "date" and bound == math.floor(bound)
                document[key] = format_iso_day(bound) if is_day else bound
        return document
    if predicate.value is not None:
        document["value"] = predicate.value
    return {**document, "holds": condition.low == YES}


def _persona_document(persona: Persona, min_people: int, words: DomainWords) -> dict[str, Any]:
    return {
        "cluster": persona.cluster,
        "name": persona.name,
        **({} if persona.automatic_name is None else {"automatic_name": persona.automatic_name}),
        "users": persona.size,
        "share": persona.share,
        "strength": round(persona.strength, 4),
        "stability": persona.stability,
        "community": persona.is_community,
        "sentences": list(persona.sentences),
        "typical": [list(pair) for pair in persona.typical],
        "interests": list(persona.interests),
        "portrait": [{"heading": heading, "lines": list(lines)} for heading, lines in persona.portrait],
        "profile": [_profile_document(row) for row in persona.profile],
        "contrasts": [_effect_size_document(effect_size, min_people, words) for effect_size in persona.effect_sizes],
    }


def _profile_document(row: ProfileRow) -> dict[str, Any]:
    figures = {name: round(getattr(row, name), 4) for name in ("position", "everybody_position", "difference")}
    return {**asdict(row), "columns": list(row.columns), **figures}


def _effect_size_document(effect_size: EffectSize, min_people: int, words: DomainWords) -> dict[str, Any]:
    too_few = effect_size.is_share and effect_size.n_people < min_people
    document: dict[str, Any] = {
        "what": feature_title(effect_size),
        "column": effect_size.feature.column,
        "kind": effect_size.feature.kind,
        "value": effect_size.feature.value,
        "here": words.hardly_anybody if too_few else format_value(effect_size, effect_size.cluster_value),
        "everybody": format_value(effect_size, effect_size.overall_value),
        "difference": round(effect_size.disclosed_difference(min_people), 4),
    }
    if too_few:
        return document
    document["interval"] = [round(effect_size.difference_low, 4), round(effect_size.difference_high, 4)]
    if effect_size.lift is not None and effect_size.lift_low is not None and effect_size.lift_high is not None:
        interval = [round(effect_size.lift_low, 3), round(effect_size.lift_high, 3)]
        document |= {"lift": round(effect_size.lift, 3), "lift_interval": interval}
    return document


def _to_markdown(personas: Sequence[Persona], n_sampled: int, min_people: int, words: DomainWords) -> str:
    note = f"Figures are estimated from a sample of {n_sampled:,}, each from at least {min_people} {words.plural}."
    lines = ["# Personas", "", note, ""]
    for persona in sorted(personas, key=lambda p: (not p.is_community, -p.size)):
        community = f" ({words.community[0].lower()}{words.community[1:]})" if persona.is_community else ""
        lines += [f"## {escape_markdown(persona.name)}{community}", "", f"Cluster {persona.cluster}.", ""]
        lines += [f"{escape_markdown(sentence)}\n" for sentence in persona.sentences]
        lines += [f"{persona.stability}\n"] if persona.stability else []
        for heading, sentences in persona.portrait:
            lines += [f"**{heading}**", "", *(f"- {escape_markdown(line)}" for line in sentences), ""]
        if persona.typical:
            typical = "; ".join(f"{name}: {value}" for name, value in persona.typical)
            lines += [f"A typical member (composed, not a real one): {escape_markdown(typical)}.", ""]
        if persona.interests and not persona.portrait:
            lines += [f"{words.opens_with}: {escape_markdown(', '.join(persona.interests))}.", ""]
    return "\n".join(lines)


def escape_markdown(text: str) -> str:
    """Escape the characters that have a meaning in Markdown or HTML."""
    escaped = re.sub(r"&(?=#?\w+;)", "&amp;", text.replace("\\", "\\\\"))  # "Action & Adventure" has no entity
    escaped = escaped.replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{c}" if c in "*_`[]#|" else c for c in escaped)


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
