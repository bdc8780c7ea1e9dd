"""The classifier knows real photographs."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

import dsfn
from dsfn.functions.library.classify import SIDE, Classify, prepared

Ready = Callable[[Any], Any]
Sample = Callable[[str], bytes]


def encoded(picture: Image.Image, format: str, **options: object) -> dsfn.Image:
    out = io.BytesIO()
    picture.save(out, format=format, **options)
    return dsfn.Image(out.getvalue())


def test_a_cup_of_coffee_is_an_espresso(ready: Ready, sample: Sample) -> None:
    guesses = ready(Classify)(dsfn.Image(sample("coffee.jpg")))
    assert guesses[0].label == "espresso"
    assert guesses[0].score > 0.9


def test_a_tabby_cat_is_a_cat(ready: Ready, sample: Sample) -> None:
    guesses = ready(Classify)(dsfn.Image(sample("cat.jpg")))
    assert {g.label for g in guesses[:3]} == {"tabby", "tiger cat", "Egyptian cat"}
    assert sum(g.score for g in guesses[:3]) > 0.9


def test_five_guesses_come_the_best_one_first(ready: Ready, sample: Sample) -> None:
    scores = [g.score for g in ready(Classify)(dsfn.Image(sample("cat.jpg")))]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)
    assert 0 < sum(scores) <= 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "1", "I;16"])
def test_pictures_of_any_mode_become_three_channels(mode: str) -> None:
    pixels = prepared(Image.new(mode, (300, 200)))
    assert pixels.shape == (SIDE, SIDE, 3)
    assert str(pixels.dtype) == "float32"


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (224, 224), (500, 333)])
def test_pictures_of_any_size_are_cut_to_the_square(size: tuple[int, int]) -> None:
    assert prepared(Image.new("RGB", size, "white")).shape == (SIDE, SIDE, 3)


def test_pixels_are_scaled_as_in_training() -> None:
    assert prepared(Image.new("RGB", (256, 256), (127, 255, 0)))[0, 0].tolist() == [
        0.0,
        1.0,
        -0.9921875,
    ]


def test_the_middle_of_the_picture_is_looked_at() -> None:
    picture = Image.new("RGB", (600, 200), "black")
    picture.paste("white", (200, 0, 400, 200))
    assert prepared(picture).min() == 1.0


def test_a_photograph_taken_sideways_is_turned(ready: Ready, sample: Sample) -> None:
    upright = Image.open(io.BytesIO(sample("coffee.jpg")))
    sideways = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    turned = ready(Classify)(encoded(sideways, "PNG", exif=exif))
    assert turned == ready(Classify)(encoded(upright, "PNG"))


def test_a_restored_function_gives_the_same_bits(
    ready: Ready, restored: Ready, sample: Sample
) -> None:
    image = dsfn.Image(sample("cat.jpg"))
    assert restored(Classify)(image) == ready(Classify)(image)
