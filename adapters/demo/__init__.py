"""The demonstration: a server that misbehaves on purpose, and a launch that recovers."""
