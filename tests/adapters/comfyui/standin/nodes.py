"""The node classes of the stand-in: a few of ComfyUI's own, and some that fail on purpose."""

from __future__ import annotations

import os
import random
import re
import string
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.adapters.comfyui.standin.state import Counts, Faults

Spec = tuple[Any, dict[str, Any]]
"""An input: its type, or the list of its values, and its options."""

OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {"__module__": "torch"})
ANY_SEED = {"default": 0, "min": 0, "max": 0xFFFFFFFFFFFFFFFF}


class InterruptedRun(BaseException):
    """A run was interrupted."""


@dataclass
class Folders:
    """Where a stand-in reads and writes."""

    output: Path
    temp: Path
    input: Path
    models: Path

    def of(self, kind: str) -> Path | None:
        return {"output": self.output, "temp": self.temp, "input": self.input}.get(kind)

    def names(self, kind: str) -> list[str]:
        folder = self.models / kind
        return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


@dataclass
class Process:
    """What the nodes of a process share."""

    folders: Folders
    faults: Faults
    counts: Counts
    flags: tuple[str, ...] = ()
    block: Callable[[float], None] = time.sleep
    is_freed: bool = False
    is_poisoned: bool = False
    is_released: bool = False
    names: set[str] = field(default_factory=set)


@dataclass
class Run:
    """One run of a node: what it may do."""

    process: Process
    prompt_id: str
    step: Callable[[int, int], None]
    check: Callable[[], None]
    note: Callable[[str], None]

    def wait(self, seconds: float, steps: int = 1) -> None:
        for done in range(1, steps + 1):
            end = time.monotonic() + seconds / steps
            while (left := end - time.monotonic()) > 0:
                self.check()
                time.sleep(min(left, 0.01))
            self.step(done, steps)
        self.check()


Body = Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]
"""A node's work: what it gives to others, and what it shows to people."""


@dataclass
class NodeClass:
    """A class of nodes.

    Attributes:
        inputs: The required ones; a function of the folders for a list that is read from the disk.
        gives: The types of what it gives.
        is_output: Whether a prompt may end with it.
        is_paid: Whether it costs money.
        is_new: Whether newer servers describe its lists as ``["COMBO", {"options": [...]}]``.
    """

    inputs: Callable[[Folders], dict[str, Spec]]
    gives: tuple[str, ...]
    body: Body
    is_output: bool = False
    is_paid: bool = False
    is_new: bool = False


CLASSES: dict[str, NodeClass] = {}


def node(
    gives: tuple[str, ...] = ("IMAGE",), *, output: bool = False, paid: bool = False, new: bool = False, **inputs: Any
) -> Callable[[Body], Body]:
    """Declare a class: a type, a pair of type and options, or the name of a folder of models as ``folder:NAME``."""

    def spec(one: Any, folders: Folders) -> Spec:
        if isinstance(one, str) and one.startswith("folder:"):
            return folders.names(one.removeprefix("folder:")), {}
        return one if isinstance(one, tuple) else (one, {})

    def declare(body: Body) -> Body:
        def at(folders: Folders) -> dict[str, Spec]:
            return {name: spec(one, folders) for name, one in inputs.items()}

        CLASSES[body.__name__] = NodeClass(at, gives, body, output, paid, new)
        return body

    return declare


def png(color: int) -> bytes:
    """A picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixel = b"\0" + (color & 0xFFFFFF).to_bytes(3, "big")
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(pixel)) + chunk(b"IEND", b"")


def save(root: Path, prefix: str, images: list[int], kind: str) -> dict[str, Any]:
    """Write files with the next free numbers."""
    subfolder, _, stem = prefix.rpartition("/")
    folder = root / subfolder
    folder.mkdir(parents=True, exist_ok=True)
    numbered = re.compile(re.escape(stem) + r"_(\d+)_.*")
    taken = [int(found[1]) for one in folder.iterdir() if (found := numbered.fullmatch(one.name))]
    files = []
    for number, color in enumerate(images, max(taken, default=0) + 1):
        name = f"{stem}_{number:05}_.png"
        (folder / name).write_bytes(png(color))
        files.append({"filename": name, "subfolder": subfolder, "type": kind})
    return {"images": files}


def use_gpu(run: Run) -> None:
    """Fail if the context is broken, or the memory is full."""
    if run.process.is_poisoned:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    if run.process.faults.spend("memory"):
        raise OutOfMemoryError("Allocation on device 0 would exceed allowed memory. (out of memory)")


@node(
    width=("INT", {"default": 512, "min": 1, "max": 16384, "step": 1}),
    height=("INT", {"default": 512, "min": 1, "max": 16384, "step": 1}),
    batch_size=("INT", {"default": 1, "min": 1, "max": 4096}),
    color=("INT", {"default": 0, "min": 0, "max": 0xFFFFFF, "step": 1, "display": "color"}),
)
def EmptyImage(run: Run, width: int, height: int, batch_size: int, color: int) -> Any:  # noqa: N802
    use_gpu(run)
    return ([color] * batch_size,), {}


@node((), output=True, images="IMAGE", filename_prefix=("STRING", {"default": "ComfyUI"}))
def SaveImage(run: Run, images: list[int], filename_prefix: str) -> Any:  # noqa: N802
    return (), save(run.process.folders.output, filename_prefix, images, "output")


@node((), output=True, images="IMAGE")
def PreviewImage(run: Run, images: list[int]) -> Any:  # noqa: N802
    word = "".join(random.choices(string.ascii_lowercase, k=5))
    return (), save(run.process.folders.temp, f"ComfyUI_temp_{word}", images, "temp")


@node(
    image="IMAGE",
    blur_radius=("INT", {"default": 1, "min": 1, "max": 31, "step": 1}),
    sigma=("FLOAT", {"default": 1.0, "min": 0.1, "max": 10.0, "step": 0.1}),
)
def ImageBlur(run: Run, image: list[int], blur_radius: int, sigma: float) -> Any:  # noqa: N802
    run.wait(blur_radius / 100)
    return (image,), {}


@node(("MODEL", "CLIP", "VAE"), ckpt_name="folder:checkpoints")
def CheckpointLoaderSimple(run: Run, ckpt_name: str) -> Any:  # noqa: N802
    use_gpu(run)
    return (ckpt_name, ckpt_name, ckpt_name), {}


@node(("UPSCALE_MODEL",), new=True, model_name="folder:upscale_models")
def UpscaleModelLoader(run: Run, model_name: str) -> Any:  # noqa: N802
    return (model_name,), {}


@node(upscale_model="UPSCALE_MODEL", image="IMAGE")
def ImageUpscaleWithModel(run: Run, upscale_model: str, image: list[int]) -> Any:  # noqa: N802
    return (image,), {}


@node(("CONDITIONING",), text="STRING", clip="CLIP")
def CLIPTextEncode(run: Run, text: str, clip: str) -> Any:  # noqa: N802
    return (text,), {}


@node(
    ("LATENT",),
    width=("INT", {"default": 512, "min": 16, "max": 16384, "step": 8}),
    height=("INT", {"default": 512, "min": 16, "max": 16384, "step": 8}),
    batch_size=("INT", {"default": 1, "min": 1, "max": 4096}),
)
def EmptyLatentImage(run: Run, width: int, height: int, batch_size: int) -> Any:  # noqa: N802
    return ([0] * batch_size,), {}


@node(
    ("LATENT",),
    model="MODEL",
    seed=("INT", ANY_SEED),
    steps=("INT", {"default": 20, "min": 1, "max": 10000}),
    cfg=("FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0}),
    sampler_name=(["euler", "dpmpp_2m"], {}),
    scheduler=(["normal", "karras"], {}),
    positive="CONDITIONING",
    negative="CONDITIONING",
    latent_image="LATENT",
    denoise=("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0}),
)
def KSampler(run: Run, seed: int, steps: int, latent_image: list[int], **_: Any) -> Any:  # noqa: N802
    use_gpu(run)
    run.wait(0.0, steps)
    return ([seed] * len(latent_image),), {}


@node(samples="LATENT", vae="VAE")
def VAEDecode(run: Run, samples: list[int], vae: str) -> Any:  # noqa: N802
    return (samples,), {}


@node(image="IMAGE", seconds=("FLOAT", {"min": 0.0, "max": 3600.0}), steps=("INT", {"min": 1, "max": 10000}))
def Sleep(run: Run, image: list[int], seconds: float, steps: int) -> Any:  # noqa: N802
    run.wait(seconds, steps)
    return (image,), {}


@node(image="IMAGE", seconds=("FLOAT", {"min": 0.0, "max": 3600.0}))
def Busy(run: Run, image: list[int], seconds: float) -> Any:  # noqa: N802
    """Blocks the whole process, as a model that loads does: no request is answered meanwhile."""
    run.process.block(seconds)
    return (image,), {}


@node(image="IMAGE", signal=("INT", {"min": 0, "max": 64}), code=("INT", {"min": 0, "max": 255}), times="INT")
def Die(run: Run, image: list[int], signal: int, code: int, times: int) -> Any:  # noqa: N802
    """Ends the process by a signal, or with an exit code: the first *times* times, 0 for always."""
    before = run.process.counts.add(f"die/{image}/{signal}/{code}")
    if times == 0 or before < times:
        if signal:
            os.kill(os.getpid(), signal)
            time.sleep(60)
        os._exit(code)
    return (image,), {}


@node(image="IMAGE", until=(["times", "free", "restart", "lowvram", "never"], {}), times="INT")
def Hungry(run: Run, image: list[int], until: str, times: int) -> Any:  # noqa: N802
    """Finds no memory: *times* times, or until ``/free``, another process, or ``--lowvram``."""
    process = run.process
    before = process.counts.add(f"hungry/{image}/{until}")
    first = process.counts.all().get(f"hungry/{image}/pid", 0)
    if first == 0:
        process.counts.put(f"hungry/{image}/pid", os.getpid())
    is_fed = {
        "times": before >= times,
        "free": process.is_freed,
        "restart": first not in (0, os.getpid()),
        "lowvram": "--lowvram" in process.flags,
        "never": False,
    }[until]
    if not is_fed:
        raise OutOfMemoryError("Allocation on device 0 would exceed allowed memory. (out of memory)")
    return (image,), {}


@node(image="IMAGE", times="INT", words=("STRING", {"default": ""}))
def Poisoned(run: Run, image: list[int], times: int, words: str) -> Any:  # noqa: N802
    """Breaks the CUDA context, in the first *times* processes: each node that computes fails after it."""
    if not run.process.is_poisoned and run.process.counts.add(f"poisoned/{image}") < times:
        run.process.is_poisoned = True
        raise RuntimeError(words or "CUDA error: device-side assert triggered")
    use_gpu(run)
    return (image,), {}


@node(image="IMAGE", seconds=("FLOAT", {"min": 0.0, "max": 3600.0}))
def Stuck(run: Run, image: list[int], seconds: float) -> Any:  # noqa: N802
    """Ignores interrupts, for some seconds or until ``POST /standin/release``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not run.process.is_released:
        time.sleep(0.01)
    return (image,), {}


@node(image="IMAGE", words="STRING", kind="STRING")
def Fail(run: Run, image: list[int], words: str, kind: str) -> Any:  # noqa: N802
    """Fails with these words, as an exception of the class *kind*, as ``torch.AcceleratorError``."""
    module, _, name = kind.rpartition(".")
    raise type(name or "ValueError", (Exception,), {"__module__": module or "builtins"})(words)


@node(paid=True, prompt="STRING", seed=("INT", ANY_SEED))
def PaidPicture(run: Run, prompt: str, seed: int) -> Any:  # noqa: N802
    """Costs money: each run that is charged has a line "paid" in the log of runs."""
    if run.process.faults.spend("login"):
        raise Exception("Unauthorized: Please login first to use this node.")
    run.note("paid")
    return ([seed],), {}


@node(("STRING",), text="STRING")
def Text(run: Run, text: str) -> Any:  # noqa: N802
    return (text,), {}


@node(("STRING",), output=True, source="STRING")
def PreviewAny(run: Run, source: str) -> Any:  # noqa: N802
    return (source,), {"text": [source]}


def install(folder: Path) -> None:
    """Read the custom nodes in *folder*: each file there is a class, named as the file, that passes a picture on."""
    for path in folder.glob("*.py"):

        def body(run: Run, image: list[int]) -> Any:
            return (image,), {}

        body.__name__ = path.stem
        node(image="IMAGE")(body)


def describe(name: str, folders: Folders, is_new: bool) -> Mapping[str, Any]:
    """What ``/object_info`` says of a class."""
    one = CLASSES[name]
    inputs: dict[str, Any] = {}
    for key, (kind, options) in one.inputs(folders).items():
        if isinstance(kind, list) and is_new and one.is_new:
            inputs[key] = ["COMBO", {**options, "multiselect": False, "options": kind}]
        else:
            inputs[key] = [kind, options] if options else [kind]
    described = {
        "input": {"required": inputs},
        "input_order": {"required": list(inputs)},
        "is_input_list": False,
        "output": list(one.gives),
        "output_is_list": [False] * len(one.gives),
        "output_name": list(one.gives),
        "name": name,
        "display_name": name,
        "description": "",
        "python_module": "comfy_api_nodes.nodes_standin" if one.is_paid else "nodes",
        "category": "api node/image" if one.is_paid else "image",
        "output_node": one.is_output,
    }
    if one.is_paid or (one.is_new and is_new):
        described["api_node"] = one.is_paid
    return described
