"""Resumable HTTP downloads."""

from adapters.downloads.http import Downloaded, download
from adapters.downloads.partial_file import (
    DestinationBusyError,
    DownloadError,
    StalePartialFileError,
    UnusableResponseError,
    WrongContentError,
)
from adapters.downloads.refusals import AccessError, RefusedError, RefusedForNowError
from adapters.downloads.tokens import Tokens

__all__ = [
    "AccessError", "DestinationBusyError", "download", "Downloaded", "DownloadError", "RefusedError",
    "RefusedForNowError", "StalePartialFileError", "Tokens", "UnusableResponseError", "WrongContentError",
]  # fmt: skip
