"""The performance regression report, written from one run: Markdown, JSON and charts."""
