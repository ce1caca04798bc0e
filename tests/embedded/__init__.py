"""What needs a broker or a Spark; its broker ends with this package."""
