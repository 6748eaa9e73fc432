"""Bytes on disk: atomic files, shards with their ledger, images by content, rollouts in SQLite."""
