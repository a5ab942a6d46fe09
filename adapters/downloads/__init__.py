"""Resumable HTTP downloads."""
