"""Turns a built plan into a release: an immutable folder in Hub layout, with a card and a
manifest."""
