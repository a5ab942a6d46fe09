"""Arguments and results as JSON that comes back exactly, or is refused with a reason."""
