"""One module for each group of rows; its ``measure(effort)`` returns them."""
