"""What every layer may use: atomic files, signals, sampling by key, words and numbers for people."""
