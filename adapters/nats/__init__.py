"""Calls that any machine of a fleet may run: they are kept by NATS JetStream, and run under leases."""
