"""The command line: `rooms …`, and `python -m engine …`.

    app.py       the application, errors to exit codes, signals, printing
    fit.py       rooms fit
    bench.py     rooms bench
    commands.py  everything else

Results go to stdout (`--json`: one object), progress and logs to stderr. Commands import what they need when they
run, so that `--help` answers at once. Exit codes are those of engine.errors; 130 and 143 after an interrupt.
"""

from engine.cli import bench, commands, fit
from engine.cli.app import app, main

__all__ = ["app", "bench", "commands", "fit", "main"]
