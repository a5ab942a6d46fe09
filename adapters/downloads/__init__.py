"""Resumable HTTP downloads."""

from adapters.downloads.http import HOST_BREAKER, Downloaded, download, host_of
from adapters.downloads.partial_file import (
    DestinationBusyError,
    DownloadError,
    StalePartialFileError,
    WrongContentError,
)

__all__ = [
    "DestinationBusyError", "download", "Downloaded", "DownloadError", "HOST_BREAKER", "host_of",
    "StalePartialFileError", "WrongContentError",
]  # fmt: skip
