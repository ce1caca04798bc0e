"""Triggers: what the triggerer waits for while no worker is taken."""
