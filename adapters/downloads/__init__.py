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
from adapters.downloads.space import NeverFitsError, NoRoomError, room_for, when_full
from adapters.downloads.tokens import Tokens
from adapters.downloads.watchdog import Trickle, TrickleError

__all__ = [
    "AccessError", "DestinationBusyError", "download", "download_from", "Downloaded", "DownloadError", "NeverFitsError",
    "NoRoomError", "RefusedError", "RefusedForNowError", "room_for", "StalePartialFileError", "Tokens", "Trickle",
    "TrickleError", "UnusableResponseError", "when_full", "WrongContentError",
]  # fmt: skip
