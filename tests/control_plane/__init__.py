"""What needs a Kubernetes API server; its fixtures end with this package."""
