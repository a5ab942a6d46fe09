"""Resumable HTTP downloads."""

from adapters.downloads.http import Downloaded, download
from adapters.downloads.partial_file import (
    DestinationBusyError,
    DownloadError,
    StalePartialFileError,
    WrongContentError,
)

__all__ = [
    "DestinationBusyError", "download", "Downloaded", "DownloadError",
    "StalePartialFileError", "WrongContentError",
]  # fmt: skip
