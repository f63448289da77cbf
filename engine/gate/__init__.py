"""The gate: is tonight's table, and are tonight's clusters, near enough to the earlier ones to be used?"""
