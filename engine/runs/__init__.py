"""The run directory: its layout, how it comes to be in one step, and the model in it."""

from engine.runs.run import Run, load

__all__ = ["Run", "load"]
