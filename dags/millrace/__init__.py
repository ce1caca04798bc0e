"""The library that the DAGs import: targets, operators, sensors, triggers, callbacks, verification and
reports.
"""
