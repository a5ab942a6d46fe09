"""Servers that a launcher holds."""
