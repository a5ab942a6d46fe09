"""Write events to a store in batches, and read them back."""
