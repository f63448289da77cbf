"""`rooms bench`: the engine's stages on generated rows, on every device there is, beside the peers installed."""
