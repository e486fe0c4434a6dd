"""Agents: what acts, what it plays, and how its gradient is estimated."""
