"""The page: the state of a service or a journal in a browser, and what a person can do there."""
