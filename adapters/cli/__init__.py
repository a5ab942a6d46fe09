"""The command ``recovery``: one module for each family of verbs."""
