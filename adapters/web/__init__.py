"""The page: the state of a service or a journal in a browser, and what a person can do there."""

from adapters.web.access import Token
from adapters.web.asgi import app

__all__ = ["app", "Token"]
