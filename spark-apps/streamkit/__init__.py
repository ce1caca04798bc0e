"""Streamkit: what every Millrace Spark app shares, from settings to a graceful stop."""
