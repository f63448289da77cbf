"""Hash tables and hashes: factorize ids, hash strings, select rows by sampling keys."""
