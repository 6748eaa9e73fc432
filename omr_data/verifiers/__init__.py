"""Compares answers with gold answers: RIGHT, WRONG or UNDECIDED, each with a reason in words."""
