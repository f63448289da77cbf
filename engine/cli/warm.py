"""rooms warm: compile all kernels ahead."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from engine.cli.app import AsJson, Debug, app, handle_errors, print_result
from engine.errors import OutOfResourcesError


@app.command()
@handle_errors
def warm(
    processes: Annotated[int | None, typer.Option(min=1, help="Processes to compile in. [default: all CPUs]")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compile all kernels that did not come compiled, so that no later command has to."""
    from engine.execution.threads import thread_count
    from engine.kernels.cpu.kernel_cache import find_kernels
    from engine.pipeline.kernel_jobs import run_jobs
    from engine.progress import Bars

    if find_kernels().folder is None:
        raise OutOfResourcesError(
            "There is no folder to keep compiled kernels in.", hint="set NUMBA_CACHE_DIR to a folder of yours."
        )
    run_jobs(os.environ, processes or thread_count(), Bars(), "compile")
    found = find_kernels()
    facts = {"level": found.level, "shipped": found.n_shipped, "kept": found.n_kept, "folder": str(found.folder)}
    text = f"{found.n_shipped} kernels came compiled, {found.n_kept} compiled here are kept in {found.folder}"
    print_result(facts, text, as_json)
