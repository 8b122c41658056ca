"""The one source of Grafana's dashboards and alert rules: `make dashboards` writes it to grafana/."""
