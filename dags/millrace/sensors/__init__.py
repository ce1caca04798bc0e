"""Sensors: each waits for one thing."""
