"""The report of a run: one HTML file that opens offline, its charts, and the colors that all pictures share."""
