"""Write an explanation into a run directory: rules.json, rules.sql, personas.json and personas.md."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.explain.binning.predicates import YES
from engine.explain.export_sql import to_sql
from engine.explain.personas.effect_sizes import Contrast
from engine.explain.personas.persona import Persona
from engine.explain.personas.phrases import figure, title
from engine.explain.rules.conditions import Condition, rule_words
from engine.explain.rules.decision_tree import LEAF
from engine.explain.rules.explanation import Explanation, View
from engine.features.encoding_plan import Plan
from engine.utils.formatting import iso_day

FORMAT = 1
HEAT_COLUMNS = 30  # features of the contrast heat map: what fits beside each other and can still be read


def write_explanation(
    folder: Path,
    found: Explanation,
    described: Sequence[Persona],
    contrasts: Sequence[Sequence[Contrast]],
    plan: Plan,
    schema: pa.Schema,
    id: str | None,
    min_people: int,
) -> None:
    """Write the four files."""
    names = [persona.name for persona in described]
    _write_json(folder / "rules.json", _rules(found, described, min_people))
    (folder / "rules.sql").write_text(to_sql(found, names, plan, schema, id), encoding="utf-8")
    heat = _heat_map(contrasts, min_people)
    facts = {"format": FORMAT, "min_people": min_people, "sampled_rows": found.n_sampled, "contrasts": heat}
    _write_json(folder / "personas.json", {**facts, "personas": [_persona(p, min_people) for p in described]})
    (folder / "personas.md").write_text(_markdown(described), encoding="utf-8")


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _rules(found: Explanation, described: Sequence[Persona], min_people: int) -> dict[str, Any]:
    named = {int(found.overview.tree.label[leaf]) for leaf in found.overview.tree.leaves}
    clusters = []
    for persona, rules in zip(described, found.clusters, strict=True):
        clusters.append(
            {
                "cluster": persona.cluster,
                "name": persona.name,
                "users": persona.size,
                "precise": rules.precise,
                "precision": round(rules.precision, 4),
                "coverage": round(rules.coverage, 4),
                "matched": rules.n_matched,
                "precision_unseen": _finite(rules.unseen[0]),
                "coverage_unseen": _finite(rules.unseen[1]),
                "rules": [
                    {
                        "words": rule_words(rule.conditions),
                        "conditions": [_condition(condition) for condition in rule.conditions],
                        "precision": round(rule.precision, 4),
                        "coverage": round(rule.coverage, 4),
                        "users": rule.n_right,
                        "matched": rule.n_matched,
                    }
                    for rule in rules.rules
                ],
            }
        )
    overview = {
        "unnamed": [p.cluster for p in described if p.size and p.cluster not in named],
        "tree": _node(found, found.overview, 0, min_people),
    }
    return {
        "format": FORMAT,
        "sampled_rows": found.n_sampled,
        "unseen_rows": found.n_unseen,
        "clusters": clusters,
        "overview": {**_fidelity(found.overview), **overview},
        "short": {**_fidelity(found.short), "tree": _node(found, found.short, 0, min_people)},
        "full": {**_fidelity(found.full), "tree": _node(found, found.full, 0, min_people)},
    }


def _fidelity(view: View) -> dict[str, Any]:
    return {
        "leaves": len(view.tree.leaves),
        "fidelity": round(view.fidelity, 4),
        "fidelity_unseen": round(view.fidelity_unseen, 4),
    }


def _node(found: Explanation, view: View, node: int, min_people: int) -> dict[str, Any]:
    tree = view.tree
    if tree.question[node] == LEAF:
        label, matched = int(tree.label[node]), int(view.counts[node].sum())
        right = int(view.counts[node][label])
        if right < min_people:
            return {"cluster": label}
        return {"cluster": label, "matched": matched, "users": right, "precision": round(right / matched, 4)}
    question, cut = int(tree.question[node]), int(tree.cut[node])
    # Of two answers the yes is asked for: "is it so?", not "is it not so?".
    yes, no, range_ = (tree.left, tree.right, (0, cut))
    if found.questions[question].n_answers == 2:
        yes, no, range_ = (tree.right, tree.left, (YES, YES))
    (condition,) = found.conditions({question: range_})
    return {
        "if": condition.words(),
        "condition": _condition(condition),
        "then": _node(found, view, int(yes[node]), min_people),
        "else": _node(found, view, int(no[node]), min_people),
    }


def _condition(condition: Condition) -> dict[str, Any]:
    """Return a condition for programs: at_least and below for numbers and dates, is for everything else."""
    asked = condition.question
    plain: dict[str, Any] = {"column": asked.column, "kind": asked.kind}
    if asked.cuts:
        for key, bound in (("at_least", condition.at_least), ("below", condition.below)):
            if bound is not None:
                plain[key] = iso_day(bound) if asked.kind == "date" and bound == math.floor(bound) else bound
        return plain
    if asked.value is not None:
        plain["value"] = asked.value
    return {**plain, "holds": condition.low == YES}


def _persona(persona: Persona, min_people: int) -> dict[str, Any]:
    return {
        "cluster": persona.cluster,
        "name": persona.name,
        "users": persona.size,
        "share": persona.share,
        "strength": round(persona.strength, 4),
        "community": persona.is_community,
        "sentences": list(persona.sentences),
        "typical": [list(pair) for pair in persona.typical],
        "interests": list(persona.interests),
        "portrait": [{"heading": heading, "lines": list(lines)} for heading, lines in persona.portrait],
        "contrasts": [_contrast(contrast, min_people) for contrast in persona.contrasts],
    }


def _contrast(contrast: Contrast, min_people: int) -> dict[str, Any]:
    few = contrast.is_share and contrast.n_people < min_people
    found: dict[str, Any] = {
        "what": title(contrast),
        "column": contrast.about.column,
        "kind": contrast.about.kind,
        "value": contrast.about.value,
        "here": "hardly anybody" if few else figure(contrast, contrast.here),
        "everybody": figure(contrast, contrast.everybody),
        "difference": round(contrast.told_difference(min_people), 4),
    }
    if few:
        return found
    found["interval"] = [round(contrast.low, 4), round(contrast.high, 4)]
    if contrast.lift is not None and contrast.lift_low is not None and contrast.lift_high is not None:
        interval = [round(contrast.lift_low, 3), round(contrast.lift_high, 3)]
        found |= {"lift": round(contrast.lift, 3), "lift_interval": interval}
    return found


def _heat_map(contrasts: Sequence[Sequence[Contrast]], min_people: int) -> dict[str, Any]:
    """Return the standardised differences of the features that tell clusters apart most, one row a cluster."""
    shown = [[c for c in part if c.n_known >= min_people] for part in contrasts]
    best: dict[str, float] = {}
    for contrast in (c for part in shown for c in part):
        best[title(contrast)] = max(best.get(title(contrast), 0.0), contrast.strength)
    features = sorted(sorted(best, key=lambda name: -best[name])[:HEAT_COLUMNS])
    rows = []
    for part in shown:
        row = {title(c): round(c.told_difference(min_people), 3) for c in part}
        rows.append([row.get(name) for name in features])
    return {"features": features, "differences": rows}


def _markdown(described: Sequence[Persona]) -> str:
    lines = ["# Personas", ""]
    for persona in sorted(described, key=lambda p: (not p.is_community, -p.size)):
        community = " (community persona)" if persona.is_community else ""
        lines += [f"## {_plain(persona.name)}{community}", "", f"Cluster {persona.cluster}.", ""]
        lines += [f"{_plain(sentence)}\n" for sentence in persona.sentences]
        for heading, said in persona.portrait:
            lines += [f"**{heading}**", "", *(f"- {_plain(line)}" for line in said), ""]
        if persona.typical:
            typical = "; ".join(f"{name}: {value}" for name, value in persona.typical)
            lines += [f"A typical member (put together, nobody real): {_plain(typical)}.", ""]
        if persona.interests and not persona.portrait:
            lines += [f"A room for them would open with {_plain(', '.join(persona.interests))}.", ""]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Escape what Markdown, or a page made of it, would take for its own."""
    escaped = re.sub(r"&(?=#?\w+;)", "&amp;", text.replace("\\", "\\\\"))  # "Action & Adventure" names no character
    escaped = escaped.replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{c}" if c in "*_`[]#|" else c for c in escaped)


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
