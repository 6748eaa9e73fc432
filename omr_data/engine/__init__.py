"""Runs a plan: cuts it into stages, runs their shards in worker processes, asks teachers, keeps the
ledger."""
