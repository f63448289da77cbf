"""Read queries of databases as Arrow batches, and write tables to them (the extra `databases`)."""
