"""rooms bench: time the engine on the CPU and a GPU, and the other installed libraries, on generated rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import AsJson, Debug, Overwrite, Threads, app, handle_errors, limit_threads, print_result


@app.command()
@handle_errors
def bench(
    rows: Annotated[int, typer.Option(min=200, help="Rows to generate; t-SNE takes 5,000 of them at most.")] = 200_000,
    features: Annotated[int, typer.Option(min=2, help="Features of a row.")] = 32,
    clusters: Annotated[int, typer.Option(min=2, help="Clusters of K-Means.")] = 20,
    stages: Annotated[str, typer.Option(help="Some of kmeans,pca,tsne.")] = "kmeans,pca,tsne",
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each, in turn.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Folder for bench.json and bench.html.")] = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Time the stages on this machine: the engine on every device, and every peer that is installed."""
    from engine.bench.output import format_table, write_plot
    from engine.bench.run import bench as run_bench
    from engine.tables.output_paths import check_new_file, local_path

    if out is not None:
        for name in ("bench.json", "bench.html"):
            check_new_file(local_path(out) / name, overwrite=overwrite)
    with limit_threads(threads):
        names = [name.strip() for name in stages.split(",") if name.strip()]
        report = run_bench(rows=rows, features=features, clusters=clusters, stages=names, rounds=rounds)
    if out is not None:
        (out / "bench.json").write_text(json.dumps(report.as_dict(), indent=1) + "\n")
        write_plot(report, out / "bench.html")
    print_result(report.as_dict(), format_table(report), as_json, written=out)
