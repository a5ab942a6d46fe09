"""The rows of the table, a module for each group: ``measure(effort)`` gives them."""
