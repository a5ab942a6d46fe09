"""Metrics for Prometheus (``prometheus``, the extra of that name) and spans for OpenTelemetry (``tracing``)."""
