"""Personas: effect sizes of every cluster, its name, sentences, and a typical member."""
