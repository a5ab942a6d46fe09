"""Resumable HTTP downloads."""

from adapters.downloads.http import Downloaded, download
from adapters.downloads.mirrors import download_from
from adapters.downloads.partial_file import (
    DestinationBusyError,
    DownloadError,
    StalePartialFileError,
    UnusableResponseError,
    WrongContentError,
)
from adapters.downloads.refusals import AccessError, RefusedError, RefusedForNowError
from adapters.downloads.tokens import Tokens
from adapters.downloads.watchdog import Trickle, TrickleError

__all__ = [
    "AccessError", "DestinationBusyError", "download", "download_from", "Downloaded", "DownloadError", "RefusedError",
    "RefusedForNowError", "StalePartialFileError", "Tokens", "Trickle", "TrickleError", "UnusableResponseError",
    "WrongContentError",
]  # fmt: skip
