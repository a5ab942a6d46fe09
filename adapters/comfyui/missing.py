"""Nodes and files that a server lacks: their questions, and where a person gets them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from adapters.comfyui.errors import MissingModelError, MissingNodeError
from events.evidence import Remedy
from recovery.redact import brief

MOST_SHOWN = 200
"""Characters of the name of a file or a class that are shown."""

REGISTRY = "https://registry.comfy.org"

THEN_YES = "Then answer yes: the server is restarted. Restart it yourself first if the launcher did not start it."
"""What follows once the pack of a node is installed."""

FOLDERS = {
    "ckpt_name": "models/checkpoints",
    "clip_name": "models/text_encoders",
    "clip_vision_name": "models/clip_vision",
    "config_name": "models/configs",
    "control_net_name": "models/controlnet",
    "gligen_name": "models/gligen",
    "hypernetwork_name": "models/hypernetworks",
    "ipadapter_file": "models/ipadapter",
    "lora_name": "models/loras",
    "photomaker_model_name": "models/photomaker",
    "style_model_name": "models/style_models",
    "unet_name": "models/diffusion_models",
    "vae_name": "models/vae",
    "audio": "input",
    "image": "input",
    "mask": "input",
    "video": "input",
}
"""The folder of the file that an input names; digits at its end, as in ``clip_name2``, do not count."""

FOLDERS_OF_CLASSES = {
    ("CLIPVisionLoader", "clip_name"): "models/clip_vision",
    ("UpscaleModelLoader", "model_name"): "models/upscale_models",
}

IS_FILE = re.compile(
    r".\.(safetensors|sft|ckpt|pt|pt2|pth|bin|pkl|gguf|onnx|engine|ya?ml|latent"
    r"|png|jpe?g|webp|gif|bmp|tiff?|exr|mp4|webm|mov|mkv|avi|wav|mp3|flac|ogg|opus|m4a|glb|gltf|obj|ply|fbx)\Z",
    re.IGNORECASE,
)
"""How the names of files of models, pictures, videos, sounds and shapes end."""

PACKS = {
    "CR ": "ComfyUI_Comfyroll_CustomNodes",
    "ETN_": "comfyui-tooling-nodes",
    "IPAdapter": "ComfyUI_IPAdapter_plus",
    "Impact": "ComfyUI-Impact-Pack",
    "VHS_": "ComfyUI-VideoHelperSuite",
    "WanVideo": "ComfyUI-WanVideoWrapper",
    "easy ": "ComfyUI-Easy-Use",
    "|pysssss": "ComfyUI-Custom-Scripts",
    "(Efficient)": "efficiency-nodes-comfyui",
    "(mtb)": "comfy_mtb",
    "(rgthree)": "rgthree-comfy",
    "//Inspire": "ComfyUI-Inspire-Pack",
}
"""Packs that mark the names of their classes: at the beginning, or at the end if the mark has a sign."""


class File(msgspec.Struct, frozen=True):
    """A file that the server does not have.

    Args:
        name: As the graph names it.
        folder: Where ComfyUI looks for it; "" if that is unknown.
        likeness: A file of that name which the server has in another folder, or with other slashes; "" for none.
    """

    name: str
    folder: str = ""
    likeness: str = ""

    @property
    def where(self) -> str:
        """The folder in words."""
        return self.folder or "its folder in models"


def folder_of(kind: str, name: str) -> str:
    """The folder of the file that the input *name* of a node of class *kind* names; "" if it is unknown."""
    name = name.rpartition(".")[2].rstrip("0123456789").rstrip("_")
    return FOLDERS_OF_CLASSES.get((kind, name)) or FOLDERS.get(name, "")


def pack_of(kind: str) -> str:
    """The pack that has nodes of the class *kind*, if the class bears its mark; "" if not."""
    for mark, pack in PACKS.items():
        if kind.endswith(mark) if mark[0] in "|(/" else kind.startswith(mark):
            return pack
    return ""


def file_in(kind: str, name: str, value: object, options: Sequence[object] = ()) -> File | None:
    """The file that an input names; None if its *value* is no file, as that of a sampler is not.

    Args:
        kind: The class of the node.
        name: The name of the input.
        value: What the graph has there.
        options: What the server has, as far as it says it.
    """
    if not isinstance(value, str) or not value:
        return None
    folder = folder_of(kind, name)
    if not (folder or IS_FILE.search(value) or any(isinstance(one, str) and IS_FILE.search(one) for one in options)):
        return None
    alike = [one for one in options if isinstance(one, str) and _base(one) == _base(value)]
    return File(value, folder, alike[0] if alike else "")


def node_error(message: str, kinds: Iterable[str]) -> MissingNodeError:
    """The error for nodes whose classes *kinds* the server does not have. The first has the question."""
    shown = [brief(one, MOST_SHOWN) for one in dict.fromkeys(kinds)]
    packs = [
        f"the pack {pack}, which has {one}" if (pack := pack_of(one)) else f"a pack that has {one}" for one in shown
    ]
    sentence = f"Install {' and '.join(packs)}. {THEN_YES}"
    return MissingNodeError(message, remedy=Remedy(sentence, link=REGISTRY, question=f"node:{shown[0]}"))


def model_error(message: str, files: Iterable[File]) -> MissingModelError:
    """The error for *files* that the server does not have. The first has the question."""
    unique = list(dict.fromkeys(files))
    puts = [f"{brief(one.name, MOST_SHOWN)} into {one.where}" for one in unique]
    sentence = f"Put {', and '.join(puts)} of ComfyUI. Then answer yes."
    question = f"model:{brief(unique[0].name, MOST_SHOWN)}"
    return MissingModelError(message, remedy=Remedy(sentence, question=question))


def _base(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2].casefold()
