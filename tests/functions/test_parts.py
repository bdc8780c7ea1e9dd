"""Parts as values: made, decoded, copied, refused."""

from __future__ import annotations

import io
import pickle

import numpy as np
import PIL.Image
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dsfn import Audio, File, Image, Tensor, Text, Video
from dsfn.functions.errors import InvalidInput
from dsfn.functions.tensor import DTYPES

BIG_WIDTH, BIG_HEIGHT = 20_000, 10_000


def picture(mode: str = "RGB", size: tuple[int, int] = (4, 3)) -> PIL.Image.Image:
    return PIL.Image.new(mode, size, 7)


def test_text_is_a_str() -> None:
    text = Text("héllo")
    assert text == "héllo" and isinstance(text, str)
    assert text.encoded() == "héllo".encode()


@pytest.mark.parametrize(
    ("format", "content_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("GIF", "image/gif")]
)
def test_an_image_knows_its_content_type_by_its_bytes(format: str, content_type: str) -> None:
    image = Image.of(picture("L"), format)
    assert Image(image.data).content_type == content_type
    assert image.content_type == content_type
    assert image.pil().size == (4, 3)


def test_a_picture_handed_out_can_be_changed_without_changing_the_image() -> None:
    image = Image.of(picture())
    image.pil().putpixel((0, 0), (255, 255, 255))
    assert image.pil().getpixel((0, 0)) == (7, 0, 0)


def test_an_image_is_pickled_without_what_it_decoded() -> None:
    image = Image.of(picture())
    image.pil()
    again = pickle.loads(pickle.dumps(image))
    assert again == image
    assert "_decoded" not in vars(again)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_truncated_image_is_refused_and_names_the_field(format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = Image.of(PIL.Image.fromarray(noise), format).data
    with pytest.raises(InvalidInput) as caught:
        Image(data[: len(data) // 2]).check("photo")
    assert caught.value.fields["field"] == "photo"
    assert "damaged or truncated" in caught.value.message


def test_an_image_of_200_megapixels_is_refused_before_it_is_decoded() -> None:
    out = io.BytesIO()
    PIL.Image.new("1", (BIG_WIDTH, BIG_HEIGHT)).save(out, "PNG")
    assert len(out.getvalue()) < 100_000
    with pytest.raises(InvalidInput, match="over the limit of 64000000"):
        Image(out.getvalue()).check("photo")


def test_an_image_between_the_limits_of_ours_and_of_pillow_is_refused() -> None:
    out = io.BytesIO()
    PIL.Image.new("1", (8_001, 8_001)).save(out, "PNG")
    with pytest.raises(InvalidInput, match="8001 x 8001 pixels are over the limit"):
        Image(out.getvalue()).check("photo")


def test_postscript_is_not_an_image() -> None:
    with pytest.raises(InvalidInput, match="not an image in a known format"):
        Image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n").check("photo")


def test_audio_gives_frames_by_channels_and_the_rate() -> None:
    samples = np.linspace(-0.9, 0.9, 600, dtype=np.float32).reshape(300, 2)
    audio = Audio.of(samples, 16_000)
    read, rate_hz = audio.samples()
    assert (read.shape, read.dtype.name, rate_hz) == ((300, 2), "float32", 16_000)
    assert np.abs(read - samples).max() < 1e-4
    assert Audio(audio.data).content_type == "audio/wav"
    assert Audio.of(samples[:, 0], 8_000).samples()[0].shape == (300, 1)


@pytest.mark.parametrize("data", [b"", b"RIFF....WAVEnothing", b"garbage" * 100])
def test_garbage_is_not_audio_and_names_the_field(data: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        Audio(data).check("voice")
    assert caught.value.fields["field"] == "voice"


def test_audio_over_four_hours_is_refused_by_its_header() -> None:
    import soundfile

    out = io.BytesIO()
    hours_5 = np.zeros(5 * 3600 * 100, np.float32)
    soundfile.write(out, hours_5, 100, format="FLAC", subtype="PCM_16")
    with pytest.raises(InvalidInput, match="longer than the limit of 14400 seconds"):
        Audio(out.getvalue()).check("voice")


def test_media_without_a_known_beginning_are_octet_streams() -> None:
    assert File(b"?").content_type == "application/octet-stream"
    assert Video(b"\x89PNG\r\n\x1a\n").content_type == "application/octet-stream"
    assert File(b"\x89PNG\r\n\x1a\n").content_type == "image/png"


@given(
    hnp.arrays(
        dtype=st.sampled_from(["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?", "c8", ">f4"]),
        shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    )
)
@settings(max_examples=60, deadline=None)
def test_every_numpy_array_survives_the_wire(array: np.ndarray) -> None:
    tensor = Tensor.decoded(Tensor.of(array).encoded())
    assert tensor.shape == array.shape
    np.testing.assert_array_equal(tensor.numpy(), array)
    np.testing.assert_array_equal(np.asarray(tensor), array)


@given(st.sampled_from([*DTYPES]), st.lists(st.integers(0, 4), max_size=3), st.randoms())
@settings(max_examples=60, deadline=None)
def test_every_tensor_survives_the_wire_byte_by_byte(
    dtype: str, shape: list[int], random: object
) -> None:
    bytes_total = int(np.prod(shape)) * DTYPES[dtype][1]
    data = bytes(i % 2 for i in range(bytes_total))
    tensor = Tensor(dtype, tuple(shape), data)
    assert Tensor.decoded(tensor.encoded()) == tensor


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int64, torch.bool]
)
def test_torch_tensors_survive_byte_by_byte_and_safetensors_agrees(dtype: torch.dtype) -> None:
    values = torch.arange(12).reshape(3, 4).t().to(dtype)
    tensor = Tensor.of(values.clone().requires_grad_(dtype.is_floating_point))
    assert tensor.encoded() == safetensors.torch.save({"tensor": values.contiguous()})
    back = safetensors.torch.load(tensor.encoded())["tensor"]
    assert back.dtype == dtype
    assert torch.equal(back.view(torch.uint8), values.contiguous().view(torch.uint8))


def test_bfloat16_widens_exactly_for_numpy() -> None:
    values = torch.randn(7).to(torch.bfloat16)
    widened = Tensor.of(values).numpy()
    assert widened.dtype == np.float32
    assert torch.equal(torch.from_numpy(widened).to(torch.bfloat16), values)


def test_a_numpy_copy_is_writable_and_the_view_is_not() -> None:
    tensor = Tensor.of([[1.0, 2.0]])
    tensor.numpy()[0, 0] = 5
    assert tensor.numpy()[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(tensor)[0, 0] = 5


@pytest.mark.parametrize("bad", [np.array(["a"]), np.array([object()]), torch.ones(2).to_sparse()])
def test_what_safetensors_cannot_hold_is_refused(bad: object) -> None:
    with pytest.raises(TypeError, match="A Tensor cannot hold"):
        Tensor.of(bad)


def test_a_tensor_whose_bytes_do_not_fit_its_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="has 24 bytes, not 3"):
        Tensor("F32", (2, 3), b"abc")
    with pytest.raises(ValueError, match="'F31' is not a dtype"):
        Tensor("F31", (), b"")


def test_safetensors_bytes_that_are_damaged_or_hold_two_tensors_are_refused() -> None:
    two = safetensors.numpy.save({"a": np.ones(1), "b": np.ones(1)})
    for data, reason in ((two, "one tensor, not 2"), (two[:-1], "not a safetensors file")):
        with pytest.raises(InvalidInput, match=reason) as caught:
            Tensor.decoded(data, "weights")
        assert caught.value.fields["field"] == "weights"
