"""Resumable HTTP downloads."""

from adapters.downloads.http import Downloaded, download
from adapters.downloads.mirrors import download_from
from adapters.downloads.partial_file import (
    DestinationBusyError,
    DownloadError,
    StalePartialFileError,
    WrongContentError,
)
from adapters.downloads.watchdog import Trickle, TrickleError

__all__ = [
    "DestinationBusyError", "download", "download_from", "Downloaded", "DownloadError", "StalePartialFileError",
    "Trickle", "TrickleError", "WrongContentError",
]  # fmt: skip
