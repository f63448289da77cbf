"""report.html: one file that opens offline and tells a run to people.

    run directory  ->  Contents  ->  jinja2 template + plotly.js + style + script, all inline

Names of columns and categories are data, and data may be hostile: jinja2 escapes every text, JSON is embedded without a
character that could end its element, labels go through charts.plotly_text, and the page's Content-Security-Policy
lets nothing run but the two scripts whose hashes it holds, and nothing load at all. Style attributes, which plotly
sets, are allowed; style sheets are not, but the two that are here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import ModelNotReadableError
from engine.report.contents import Contents, read_contents
from engine.utils.atomic_files import written
from engine.utils.formatting import listed, percent

if TYPE_CHECKING:
    from markupsafe import Markup

# Parts of plotly.js that no chart here uses (geographic maps) add a style sheet unless an element of this id is there.
_STYLE_OF_A_PART = re.compile(r'getElementById\("([0-9a-f]{64})"\)')
TEMPLATES = Path(__file__).parent / "templates"
_SECTIONS = (
    ("map", "Map"), ("sizes", "Sizes"), ("personas", "Personas"), ("rules", "Rules"), ("overview", "Tree"),
    ("contrasts", "Contrasts"), ("choice", "Number"), ("data", "Data"), ("run", "Run"),
)  # fmt: skip


def write_report(folder: Path) -> Path:
    """Write report.html into a run directory, whole or not at all; return its path.

    Raises
    ------
    ModelNotReadableError
        If a file of the run is missing or not what a run writes.
    """
    try:
        html = render(read_contents(folder))
    except (OSError, KeyError, ValueError) as error:
        raise ModelNotReadableError(
            f"{folder} cannot be told as a report: {type(error).__name__}: {error}.", hint="fit again."
        ) from error
    out = folder / "report.html"
    with written(out) as path:
        path.write_text(html, encoding="utf-8")
    return out


def render(contents: Contents) -> str:
    """Return the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, finalize=_unbroken
    )
    css, plotly_css, js = (_text(TEMPLATES / name) for name in ("report.css", "plotly.css", "report.js"))
    plotly_js = _text(_plotly_js())
    scripts, styles = (" ".join(_hash(text) for text in texts) for texts in ((plotly_js, js), (css, plotly_css)))
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src-elem {styles}; style-src {styles}; "
        "style-src-attr 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("report.html.j2").render(
        **_values(contents),
        policy=Markup(policy),
        css=Markup(css),
        plotly_css=Markup(plotly_css),
        js=Markup(js),
        plotly_js=Markup(plotly_js),
        data=Markup(embedded_json(contents.charts)),
        styles_there=_STYLE_OF_A_PART.findall(plotly_js),
    )


def embedded_json(document: Any) -> str:
    """Return JSON that can stand inside a script element: nothing in it can end the element or a line."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))  # ASCII: U+2028 and U+2029 are escaped
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _values(contents: Contents) -> dict[str, Any]:
    manifest, rules = contents.manifest, contents.rules
    clusters = contents.clusters
    personas = clusters and clusters[0]["persona"] is not None
    names = [clusters[c]["name"] for c in rules["overview"]["unnamed"]] if rules else []
    dropped = [column["name"] for column in contents.columns if column["done"] == "left out"]
    absent = set() if personas else {"personas", "rules", "overview"}
    absent |= set() if "heat" in contents.charts else {"contrasts"}
    return {
        "title": f"{manifest['clusters']} clusters of {manifest['rows']:,} people",
        "sections": [section for section in _SECTIONS if section[0] not in absent],
        "headline": _headline(contents),
        "community": next((c for c in clusters if c["persona"] and c["persona"]["community"]), None),
        "personas": personas,
        "clusters": clusters,
        "by_size": sorted(clusters, key=lambda c: -c["size"]),
        "charts": contents.charts,
        "dots": f"{sum(len(trace['x']) for trace in contents.charts.get('map', {'data': []})['data']):,}",
        "manifest": manifest,
        "rules": rules,
        "unnamed": listed(names),
        "n_unnamed": len(names),
        "min_people": contents.min_people,
        "sampled": rules["sampled_rows"] if rules else 0,
        "wanted": percent(contents.min_precision),
        "heat": contents.heat,
        "elbow": contents.elbow,
        "columns": contents.columns,
        "used": len(contents.columns) - len(dropped),
        "dropped": listed(dropped),
        "facts": contents.facts,
        "swatch": _swatch,
        "bar": _bar,
        "percent": percent,
        "signed": _signed,
        "figure": _figure,
    }


def _headline(contents: Contents) -> list[tuple[str, str]]:
    manifest = contents.manifest
    seconds = sum(stage["seconds"] for stage in manifest["stages"])
    found = [
        (f"{manifest['rows']:,}", "people"),
        (str(manifest["clusters"]), "clusters"),
        (str(manifest["features"]), f"features of {len(contents.columns)} columns"),
    ]
    if contents.rules:
        found.append((percent(contents.rules["full"]["fidelity"]), "of the people named rightly by rules"))
    return [*found, (f"{seconds:.1f} s", f"on {manifest['device']}")]


def _swatch(colour: str) -> Markup:
    """Return a small square of a cluster's colour, which is one of the palette's, never data."""
    from markupsafe import Markup

    return Markup(
        '<svg class="swatch" viewBox="0 0 10 10" aria-hidden="true">'
        '<rect width="10" height="10" rx="2" fill="{}"/></svg>'
    ).format(colour)


def _bar(share: float, colour: str) -> Markup:
    from markupsafe import Markup

    return Markup(
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect width="{:.1f}" height="10" fill="{}"/></svg>'
    ).format(100 * share, colour)


def _unbroken(value: Any) -> Any:
    """Keep a percent sign on the line of its number."""
    return value.replace(" %", "\u00a0%") if type(value) is str else value


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}".replace("-", "−")


def _figure(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "not defined"
    return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _plotly_js() -> Path:
    """Return where plotly keeps its script; the library itself is not imported, which would take half a second."""
    spec = find_spec("plotly")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))) / "package_data" / "plotly.min.js"


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
