"""Benchmarks: ratios measured side by side. ``make bench`` prints them, ``make report`` writes the page."""
