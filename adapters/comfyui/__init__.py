"""One ComfyUI server and the queue of prompts before it: what callers get and what is raised."""

from adapters.comfyui.answers import OutputFile
from adapters.comfyui.errors import (
    BrokenContextError,
    InvalidGraphError,
    MemoryFullError,
    MissingModelError,
    MissingNodeError,
    NoAnswerError,
    OutcomeUnknownError,
    OutOfMemoryError,
    PaidAccountError,
    PaidLoginError,
    PaidNodesError,
    PoisonedContextError,
    PromptFailedError,
    PromptInterruptedError,
    PromptLostError,
    PromptQuarantinedError,
    PromptRefusedError,
    ServerBusyError,
    ServerDownError,
)
from adapters.comfyui.progress import progress_of
from adapters.comfyui.record import PromptProgress
from adapters.comfyui.result import PromptResult, QueuedPrompt

__all__ = [
    "BrokenContextError",
    "InvalidGraphError",
    "MemoryFullError",
    "MissingModelError",
    "MissingNodeError",
    "NoAnswerError",
    "OutcomeUnknownError",
    "OutOfMemoryError",
    "OutputFile",
    "PaidAccountError",
    "PaidLoginError",
    "PaidNodesError",
    "PoisonedContextError",
    "progress_of",
    "PromptFailedError",
    "PromptInterruptedError",
    "PromptLostError",
    "PromptProgress",
    "PromptQuarantinedError",
    "PromptRefusedError",
    "PromptResult",
    "QueuedPrompt",
    "ServerBusyError",
    "ServerDownError",
]
