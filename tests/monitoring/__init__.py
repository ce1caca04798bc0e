"""What is measured, asked and alerted; its Prometheus ends with this package."""
