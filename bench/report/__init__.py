"""The performance report, written from one run: Markdown, JSON and charts."""
