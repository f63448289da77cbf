"""The fit, stage by stage."""
