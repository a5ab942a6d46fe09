"""ComfyUI servers: a stand-in that speaks both dialects, and what is built on it."""
