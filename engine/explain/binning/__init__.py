"""Binning: thresholds people would choose, predicates on columns, and the binned table of all rows."""
