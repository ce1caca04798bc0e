"""Lays down a pipeline of your own from a template: `python -m new_pipeline my_pipeline`."""
