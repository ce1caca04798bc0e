"""The Grafana dashboards: what they show is written here, their JSON is made of it."""
