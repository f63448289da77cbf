"""Write report.html: one file that opens offline and presents a run to people.

    run directory  ->  ReportContents  ->  jinja2 template + plotly.js + style + script, all inline

Names of columns and categories are data, and data may be hostile: jinja2 escapes every text, JSON is embedded without a
character that could end its element, labels go through charts.plotly_text, and the page's Content-Security-Policy
allows only the two scripts whose hashes it holds, and no resource to be loaded. It allows style attributes, which
plotly sets, and of style sheets only the two of this page. plotly.js is compressed in the page, to less than half.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import ModelNotReadableError
from engine.report.contents import ReportContents, read_contents
from engine.utils.atomic_files import write_atomically
from engine.utils.domain_words import DomainWords
from engine.utils.formatting import capitalize_first, format_percent, natural_list, printable_text

if TYPE_CHECKING:
    from markupsafe import Markup

# plotly.js adds the style sheet of its geographic maps, which no chart of the report uses, unless an element of this id
# exists.
_PLOTLY_STYLE_ID = re.compile(r'getElementById\("([0-9a-f]{64})"\)')
GZIP_LEVEL = 4  # 4 % larger than the best, in two fifths of the time
TEMPLATES = Path(__file__).parent / "templates"
SHOWN_COLUMNS = 10  # of those that differ most from the earlier run
_SECTIONS = (
    ("map", "Clusters"), ("changes", "Changes"), ("history", "History"), ("personas", "Personas"),
    ("features", "Features"), ("overview", "Tree"), ("choice", "How many"), ("data", "Data"), ("run", "Run"),
)  # fmt: skip


def write_report(folder: Path) -> Path:
    """Write report.html into a run directory, atomically; return its path.

    Raises
    ------
    ModelNotReadableError
        If a file of the run is missing or not what a run writes.
    """
    try:
        html = render_html(read_contents(folder))
    except (OSError, KeyError, ValueError) as error:
        raise ModelNotReadableError(
            f"{folder} cannot be made into a report: {type(error).__name__}: {error}.", hint="fit again."
        ) from error
    out = folder / "report.html"
    with write_atomically(out) as path:
        path.write_text(html, encoding="utf-8")
    return out


def render_html(contents: ReportContents) -> str:
    """Return the page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, finalize=_keep_percent_signs
    )
    css, plotly_css, js = (_read_text(TEMPLATES / name) for name in ("report.css", "plotly.css", "report.js"))
    plotly_js = _read_text(_plotly_js_path())
    scripts, styles = (" ".join(_csp_hash(text) for text in texts) for texts in ((plotly_js, js), (css, plotly_css)))
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src-elem {styles}; style-src {styles}; "
        "style-src-attr 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("report.html.j2").render(
        **_template_variables(contents),
        policy=Markup(policy),
        css=Markup(css),
        plotly_css=Markup(plotly_css),
        js=Markup(js),
        plotly_gzip=Markup(_compress(plotly_js)),
        data=Markup(dump_script_json(_script_data(contents))),
        plotly_style_ids=_PLOTLY_STYLE_ID.findall(plotly_js),
    )


def dump_script_json(document: Any) -> str:
    """Return JSON that is safe inside a script element: no character in it can end the element or a line."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))  # ASCII: U+2028 and U+2029 are escaped
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _template_variables(contents: ReportContents) -> dict[str, Any]:
    manifest, rules = contents.manifest, contents.rules
    clusters = contents.clusters
    personas = clusters and clusters[0]["persona"] is not None
    by_size = sorted(clusters, key=lambda c: -c["size"])
    by_number = {cluster["cluster"]: cluster for cluster in clusters}
    names = [by_number[number]["name"] for number in rules["overview"]["unnamed"]] if rules else []
    dropped = [column["name"] for column in contents.columns if column["encoding"] == "left out"]
    one_cluster = len(clusters) == 1
    left_out = set() if contents.features else {"features"}
    left_out |= set() if personas else {"personas"}
    left_out |= set() if personas and not one_cluster else {"overview"}
    left_out |= set() if contents.gate else {"changes"}
    left_out |= set() if "history" in contents.charts else {"history"}
    return {
        "title": _title(manifest, contents.words),
        "sections": [section for section in _SECTIONS if section[0] not in left_out],
        "headline": _headline(contents),
        "words": contents.words,
        "everybody": capitalize_first(contents.words.everybody),
        "personas": personas,
        "clusters": clusters,
        "by_number": by_number,
        "by_size": by_size,
        "by_card": sorted(by_size, key=lambda c: not (c["persona"] and c["persona"]["community"])),
        "charts": contents.charts,
        "dots": _describe_dots(contents),
        "manifest": manifest,
        "rules": None if one_cluster else rules,
        "unnamed": natural_list(names),
        "n_unnamed": len(names),
        "min_people": contents.min_people,
        "n_sampled": rules["sampled_rows"] if rules else 0,
        "min_precision": format_percent(contents.min_precision),
        "features": contents.features,
        "box_titles": [title for title, _ in contents.boxes],
        "elbow": contents.elbow,
        "columns": contents.columns,
        "n_used": len(contents.columns) - len(dropped),
        "dropped": natural_list(dropped),
        "facts": contents.facts,
        "gate": contents.gate,
        "lineage": contents.lineage,
        "drifted": sorted(contents.gate["columns"], key=lambda c: -c["js"])[:SHOWN_COLUMNS] if contents.gate else [],
        "swatch": _swatch,
        "bar": _bar,
        "position_bar": _position_bar,
        "percent": format_percent,
        "printable": printable_text,
        "signed": _format_signed,
        "figure": _format_score,
    }


def _script_data(contents: ReportContents) -> dict[str, Any]:
    """Return what the page's script draws: charts, box plots to choose from, and the table of features."""
    features = [
        {
            "what": feature["what"],
            "importance": feature["importance"],
            "permutation": feature.get("permutation_importance"),
            "everybody": feature["everybody"],
            "cells": [cell and [cell["here"], cell["difference"]] for cell in feature["clusters"]],
        }
        for feature in contents.features
    ]
    return {
        "charts": contents.charts,
        "boxes": [chart for _, chart in contents.boxes],
        "everybody": capitalize_first(contents.words.everybody),
        "clusters": [[str(cluster["cluster"]), cluster["name"]] for cluster in contents.clusters],
        "features": features,
    }


def _title(manifest: dict[str, Any], words: DomainWords) -> str:
    people = words.count(manifest["rows"])
    return f"{manifest['clusters']} clusters of {people}" if manifest["clusters"] > 1 else f"No clusters in {people}"


def _describe_dots(contents: ReportContents) -> str:
    """Say what a dot of the map is: each of the rows, or of a choice of them."""
    n_rows, words = contents.manifest["rows"], contents.words
    n_dots = sum(len(trace["x"]) for trace in contents.charts.get("map", {"data": []})["data"])
    which = f"the {n_rows:,}" if n_dots == n_rows else f"a sample of {n_dots:,} of {n_rows:,}"
    return f"Each dot is one of {which} {words.plural}"


def _headline(contents: ReportContents) -> list[tuple[str, str]]:
    manifest, words = contents.manifest, contents.words
    columns = "column" if len(contents.columns) == 1 else "columns"
    figures = [(f"{len(contents.columns)}", f"{columns} of each" if manifest["rows"] > 1 else columns)]
    sure = [cluster["sureness"] for cluster in contents.clusters if cluster["sureness"]]
    if sure:
        n_stable = len(sure) - sure.count("weak")
        are = "clusters is a stable group" if n_stable == 1 else "clusters are stable groups"
        figures.append((f"{n_stable} of {len(sure)}", are))
    if contents.rules and manifest["clusters"] > 1:
        described = sum(cluster["coverage"] * cluster["users"] for cluster in contents.rules["clusters"])
        share = format_percent(described / manifest["rows"])
        figures.append((share, f"of the {words.plural} are matched by the rules shown"))
    return figures


def _swatch(color: str) -> Markup:
    """Return a small square in a color of the palette; the color is never data, so it needs no escaping."""
    from markupsafe import Markup

    return Markup(
        '<svg class="swatch" viewBox="0 0 10 10" aria-hidden="true">'
        '<rect width="10" height="10" rx="2" fill="{}"/></svg>'
    ).format(color)


def _bar(share: float, color: str) -> Markup:
    """Return a horizontal bar whose filled part is `share`, in [0, 1]."""
    from markupsafe import Markup

    return Markup(
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect width="{:.1f}" height="10" fill="{}"/></svg>'
    ).format(100 * share, color)


def _position_bar(row: dict[str, Any], color: str) -> Markup:
    """Return the bar of a profile's row: filled up to its position in [0, 1], with a line at everybody's."""
    from markupsafe import Markup

    return Markup(
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="scale" width="100" height="10"/><rect width="{:.1f}" height="10" fill="{}"/>'
        '<rect class="tick" x="{:.1f}" width="2.5" height="10"/></svg>'
    ).format(100 * row["position"], color, 97.5 * row["everybody_position"])


def _compress(text: str) -> str:
    """Return text compressed by gzip, in base64."""
    return base64.b64encode(gzip.compress(text.encode(), GZIP_LEVEL, mtime=0)).decode()


def _keep_percent_signs(value: Any) -> Any:
    """Join a percent sign to its number by a no-break space."""
    return value.replace(" %", "\u00a0%") if type(value) is str else value


def _format_signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}".replace("-", "−")


def _format_score(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "not defined"
    return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _plotly_js_path() -> Path:
    """Return the path of plotly.js in the plotly package, which is not imported: that would take half a second."""
    spec = find_spec("plotly")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))) / "package_data" / "plotly.min.js"


def _csp_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
