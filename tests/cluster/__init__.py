"""Several machines on real NATS servers, on the loopback: ``make cluster``."""
