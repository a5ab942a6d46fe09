"""Graphs in the API format, for the stand-in. Those of EmptyImage and SaveImage alone run on a real ComfyUI too."""

from __future__ import annotations

from typing import Any

Graph = dict[str, dict[str, Any]]


def node(class_type: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, **({"_meta": {"title": title}} if title else {})}


def through(class_type: str, seed: int = 0, prefix: str = "a", **inputs: Any) -> Graph:
    """A picture that passes a node of a class: nodes 1, 2 and 3."""
    return {
        "1": node("EmptyImage", width=64, height=64, batch_size=1, color=seed),
        "2": node(class_type, image=["1", 0], **inputs),
        "3": node("SaveImage", "Save it", images=["2", 0], filename_prefix=prefix),
    }


def picture(seed: int = 0, seconds: float = 0.0, prefix: str = "a", steps: int = 4) -> Graph:
    """One file; it takes *seconds*, with *steps* messages of progress."""
    if seconds:
        return through("Sleep", seed, prefix, seconds=seconds, steps=steps)
    graph = through("Sleep", seed, prefix)
    del graph["2"]
    graph["3"]["inputs"]["images"] = ["1", 0]
    return graph


def slow_picture(seed: int = 0, prefix: str = "a", blurs: int = 10) -> Graph:
    """One file that takes seconds, by nodes that a real ComfyUI has too."""
    graph = picture(seed, prefix=prefix)
    graph["1"]["inputs"] |= {"width": 2048, "height": 2048}
    last = "1"
    for number in range(10, 10 + blurs):
        graph[str(number)] = node("ImageBlur", image=[last, 0], blur_radius=31, sigma=10.0)
        last = str(number)
    graph["3"]["inputs"]["images"] = [last, 0]
    return graph


def preview(seed: int = 0) -> Graph:
    """A file of type "temp" alone."""
    graph = picture(seed)
    graph["3"] = node("PreviewImage", images=["1", 0])
    return graph


def killer(seed: int = 0, signal: int = 9, code: int = 0, times: int = 0, prefix: str = "killer") -> Graph:
    """Ends the server, by a signal or (signal=0) with an exit code: the first *times* times, 0 for always."""
    return through("Die", seed, prefix, signal=signal, code=code, times=times)


def busy(seconds: float, seed: int = 0, prefix: str = "busy") -> Graph:
    """The server answers nothing for *seconds*, as while it loads a model."""
    return through("Busy", seed, prefix, seconds=seconds)


def hungry(until: str = "free", times: int = 1, seed: int = 0, prefix: str = "hungry") -> Graph:
    """Finds no memory: "times" (*times* times), until "free", "restart" or "lowvram", or "never" any."""
    return through("Hungry", seed, prefix, until=until, times=times)


def poisoned(times: int = 1, seed: int = 0, prefix: str = "poisoned", words: str = "") -> Graph:
    """Breaks the CUDA context, in the first *times* processes."""
    return through("Poisoned", seed, prefix, times=times, words=words)


def stuck(seconds: float = 60.0, seed: int = 0, prefix: str = "stuck") -> Graph:
    """Ignores interrupts."""
    return through("Stuck", seed, prefix, seconds=seconds)


def failing(words: str = "the size must be even", kind: str = "ValueError", prefix: str = "failing") -> Graph:
    """A node fails with these words."""
    return through("Fail", 0, prefix, words=words, kind=kind)


def paid(seed: int = 0, prefix: str = "paid") -> Graph:
    """Costs money."""
    return {
        "1": node("PaidPicture", "Paid picture", prompt="a cat", seed=seed),
        "3": node("SaveImage", images=["1", 0], filename_prefix=prefix),
    }


def checkpoint(name: str, seed: int = 0, prefix: str = "model", steps: int = 2) -> Graph:
    """A picture of a model, as ComfyUI's first workflow makes it."""
    sampling: dict[str, Any] = {"cfg": 8.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    return {
        "4": node("CheckpointLoaderSimple", "Load Checkpoint", ckpt_name=name),
        "5": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "6": node("CLIPTextEncode", "Prompt", text="a cat", clip=["4", 1]),
        "7": node("CLIPTextEncode", "Negative prompt", text="", clip=["4", 1]),
        "10": node(
            "KSampler",
            model=["4", 0],
            seed=seed,
            steps=steps,
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
            **sampling,
        ),
        "8": node("VAEDecode", samples=["10", 0], vae=["4", 2]),
        "3": node("SaveImage", "Save Image", images=["8", 0], filename_prefix=prefix),
    }


def upscaled(name: str, seed: int = 0, prefix: str = "up") -> Graph:
    """Needs a model of a class that newer servers describe in the newer way."""
    graph = through("ImageUpscaleWithModel", seed, prefix, upscale_model=["4", 0])
    return graph | {"4": node("UpscaleModelLoader", model_name=name)}


def unknown_class(name: str = "AbsentNode", title: str = "Absent") -> Graph:
    """Needs a custom node."""
    return picture() | {"9": node(name, title)}


def without_outputs() -> Graph:
    graph = picture()
    del graph["3"]
    return graph


def partial(seed: int = 0, prefix: str = "partial") -> Graph:
    """One output is right (node 3), the other lacks an input (node 4)."""
    return picture(seed, prefix=prefix) | {"4": node("SaveImage", images=["1", 0])}


def without_input() -> Graph:
    graph = picture()
    del graph["1"]["inputs"]["width"]
    return graph


def too_big() -> Graph:
    graph = picture()
    graph["1"]["inputs"]["width"] = 10**6
    return graph


def text(words: str = "hello") -> Graph:
    """An output that is no file."""
    return {"1": node("Text", text=words), "2": node("PreviewAny", source=["1", 0])}
