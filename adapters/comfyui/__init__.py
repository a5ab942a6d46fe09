"""One ComfyUI server and the queue of prompts before it: what callers get. Their errors are in ``errors``."""

from adapters.comfyui.answers import OutputFile
from adapters.comfyui.progress import progress_of
from adapters.comfyui.record import PromptProgress
from adapters.comfyui.result import PromptResult, QueuedPrompt

__all__ = ["OutputFile", "progress_of", "PromptProgress", "PromptResult", "QueuedPrompt"]
