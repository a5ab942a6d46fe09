"""A small server that behaves as ComfyUI does where it matters to a client. It needs aiohttp, and no models."""
