"""From one run to the next: clusters matched by the people they share, and the history of each cluster's number."""
