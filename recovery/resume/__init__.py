"""Continue the calls that a dead process left."""
