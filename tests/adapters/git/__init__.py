"""Tests of clones and updates, with real git."""
