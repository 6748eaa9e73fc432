"""The command line: one file per group of commands, each with what these commands print."""

from omr_data.cli.app import app, main

__all__ = ["app", "main"]
