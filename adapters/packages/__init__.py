"""Packages of Python: requirements files, environments, and installs by pip or uv."""
