"""The kinds of operations of a plan: each a module with its keys, its checks, and what runs it."""
