"""Dashboards and alerts, made from the declarations of the metrics."""
