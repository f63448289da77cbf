"""Format a benchmark report as a table for the terminal, and plot its seconds in one offline HTML file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from engine.bench.run import BenchReport

BAR_HEIGHT, STAGE_HEIGHT = 34, 130  # pixels


def format_table(report: BenchReport, width: int = 110) -> str:
    """Return the results as a table, and below it the contenders that could not run, with the reasons."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name, justify in (("stage", "left"), ("", "left"), ("rows", "right"), ("seconds", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("rows/s", justify="right")
    table.add_column("times as long", justify="right")
    table.add_column("quality", justify="right")
    for stage in report.settings["stages"]:
        results = [result for result in report.results if result.stage == stage]
        fastest = min((result.seconds for result in results), default=1.0)
        for result in sorted(results, key=lambda result: result.seconds):
            table.add_row(
                stage, result.contender, f"{result.rows:,}", f"{result.seconds:.4g}", f"{result.rows_per_second:,.0f}",
                f"{result.seconds / fastest:.2f}", f"{result.quality:g} ({result.measure})",
            )  # fmt: skip
    text = io.StringIO()
    Console(file=text, width=width).print(table)
    missing = [f"not in it: {entry['stage']}, {entry['contender']}: {entry['reason']}" for entry in report.missing]
    return "\n".join([text.getvalue().rstrip(), *missing])


def write_plot(report: BenchReport, path: Path) -> None:
    """Plot the seconds as bars, one panel per stage, in one HTML file that works offline."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    stages: list[str] = [stage for stage in report.settings["stages"] if any(r.stage == stage for r in report.results)]
    figure: Any = make_subplots(rows=max(1, len(stages)), cols=1, subplot_titles=stages)
    for row, stage in enumerate(stages, 1):
        results = sorted((r for r in report.results if r.stage == stage), key=lambda r: -r.seconds)
        bars = go.Bar(
            x=[r.seconds for r in results], y=[r.contender for r in results], orientation="h",
            text=[f"{r.seconds:.4g} s, {r.measure} {r.quality:g}" for r in results], showlegend=False,
        )  # fmt: skip
        figure.add_trace(bars, row=row, col=1)
    figure.update_xaxes(title_text="seconds", rangemode="tozero")
    settings = report.settings
    title = f"{settings['rows']:,} rows, {settings['features']} features, {settings['clusters']} clusters"
    height = STAGE_HEIGHT * len(stages) + BAR_HEIGHT * len(report.results) + STAGE_HEIGHT
    figure.update_layout(title=f"{title}; {report.machine['cpu']}; {report.machine['gpu']}", height=height)
    figure.write_html(path, include_plotlyjs=True)
