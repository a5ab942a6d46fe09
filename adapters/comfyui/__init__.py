"""One ComfyUI server and the queue of prompts before it. The errors and results that callers see are exported here."""
