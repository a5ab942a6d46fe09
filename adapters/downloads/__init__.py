"""Resumable HTTP downloads."""

from adapters.downloads.http import Downloaded, download
from adapters.downloads.partial_file import (
    DestinationBusyError,
    DownloadError,
    StalePartialFileError,
    UnusableResponseError,
    WrongContentError,
)

__all__ = [
    "DestinationBusyError", "download", "Downloaded", "DownloadError",
    "StalePartialFileError", "UnusableResponseError", "WrongContentError",
]  # fmt: skip
