"""The command line: `rooms …`, and `python -m engine …`.

    app.py            the application, shared options, errors to exit codes, signals, printing
    demo.py … warm.py   one file per command: demo, profiles, fit, assign, why, similar, compare, …
    summary.py        the summary of a run and its clusters, for `rooms fit`, `demo` and `show`
    doctor_checks.py  the checks of `rooms doctor`

Results go to stdout (`--json`: one object), progress and logs to stderr. Commands import what they need when they run,
so that `--help` answers within a second. Exit codes are those of engine.errors; 130 and 143 after an interrupt.
"""

from engine.cli import (
    assign,
    bench,
    compare,
    demo,
    doctor,
    export,
    fit,
    history,
    profiles,
    rename,
    report,
    show,
    similar,
    warm,
    why,
)
from engine.cli.app import app, main

__all__ = [
    "app",
    "assign",
    "bench",
    "compare",
    "demo",
    "doctor",
    "export",
    "fit",
    "history",
    "main",
    "profiles",
    "rename",
    "report",
    "show",
    "similar",
    "warm",
    "why",
]
