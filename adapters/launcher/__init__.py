"""Launch plans: run them, show them, report on them."""
