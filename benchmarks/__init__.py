"""What `make bench` runs. See benchmarks/README.md."""
