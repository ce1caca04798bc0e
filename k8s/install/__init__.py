"""Brings Millrace onto a Kubernetes cluster, kind's or any other. Every step is a command that can be typed by hand."""
