"""The report of a run: one HTML file that opens offline, its charts, and the colours every picture shares."""
