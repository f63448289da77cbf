"""rooms doctor: print what this machine can run."""

from __future__ import annotations

from engine.cli.app import AsJson, Debug, app, handle_errors, print_result


@app.command()
@handle_errors
def doctor(as_json: AsJson = False, debug: Debug = False) -> None:
    """Say what this machine can run, and why not."""
    from engine.cli.doctor_checks import run_checks

    checks = run_checks()
    text = "\n".join(f"{'ok ' if check.ok else 'no '} {check.name:<10} {check.finding}" for check in checks)
    print_result({check.name: {"ok": check.ok, "finding": check.finding} for check in checks}, text, as_json)
