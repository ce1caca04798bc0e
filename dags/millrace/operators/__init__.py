"""Operators: each starts, makes or stops one thing."""
