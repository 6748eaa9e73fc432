"""Embedders turn texts into vectors of meaning. Each file defines one kind, called Embedder."""
