"""`rooms bench`: time the engine's stages on every device, and the other installed libraries, on the same rows."""
