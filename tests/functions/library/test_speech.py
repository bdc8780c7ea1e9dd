"""Speech is found where Silero's own `get_speech_timestamps` finds it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import dsfn
from dsfn.functions.errors import InvalidInput
from dsfn.functions.library.speech import (
    RATE_HZ,
    DetectSpeech,
    padded,
    resampled,
    stretches,
)

Ready = Callable[[Any], Any]
Sample = Callable[[str], bytes]
# Made by silero-vad's own `get_speech_timestamps` and `audio_forward`.
GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "speech.json").read_text("utf-8"))


def tone(rate_hz: int, seconds: float, hz: float) -> NDArray[np.float32]:
    time = np.arange(int(rate_hz * seconds)) / rate_hz
    return np.sin(2 * np.pi * hz * time).astype(np.float32)


def test_segments_of_the_sample_are_the_reference(ready: Ready, sample: Sample) -> None:
    answer = ready(DetectSpeech)(dsfn.Audio(sample("speech.ogg")))
    found = [
        {"start": round(s.start_s * RATE_HZ), "end": round(s.end_s * RATE_HZ)}
        for s in answer.segments
    ]
    assert found == GOLDEN["segments"]
    assert answer.duration_s == pytest.approx(12.094, abs=0.001)


def test_probabilities_of_the_sample_are_the_reference(ready: Ready, sample: Sample) -> None:
    samples, rate_hz = dsfn.Audio(sample("speech.ogg")).samples()
    ours = ready(DetectSpeech).probabilities(resampled(samples.mean(axis=1), rate_hz))
    assert np.abs(np.array(ours) - GOLDEN["probabilities"]).max() < 1e-4


@pytest.mark.parametrize("rate_hz", [22_050, 44_100, 48_000])
def test_a_recording_at_another_rate_has_the_same_segments(
    ready: Ready, sample: Sample, rate_hz: int
) -> None:
    samples, _ = dsfn.Audio(sample("speech.ogg")).samples()
    time = np.arange(int(len(samples) * rate_hz / RATE_HZ)) * RATE_HZ / rate_hz
    other = np.interp(time, np.arange(len(samples)), samples[:, 0])
    found = ready(DetectSpeech)(dsfn.Audio.of(other, rate_hz)).segments
    assert len(found) == len(GOLDEN["segments"])
    for segment, wanted in zip(found, GOLDEN["segments"], strict=True):
        assert abs(segment.start_s - wanted["start"] / RATE_HZ) < 0.07
        assert abs(segment.end_s - wanted["end"] / RATE_HZ) < 0.07


def test_one_call_does_not_depend_on_the_one_before(ready: Ready, sample: Sample) -> None:
    function, audio = ready(DetectSpeech), dsfn.Audio(sample("speech.ogg"))
    first = function(audio)
    function(dsfn.Audio.of(np.zeros(5000), RATE_HZ))
    assert function(audio) == first


def test_stereo_gives_what_its_mean_gives(ready: Ready, sample: Sample) -> None:
    samples, rate_hz = dsfn.Audio(sample("speech.ogg")).samples()
    stereo = np.repeat(samples, 2, axis=1)
    answer = ready(DetectSpeech)(dsfn.Audio.of(stereo, rate_hz))
    assert answer == ready(DetectSpeech)(dsfn.Audio.of(samples, rate_hz))


@pytest.mark.parametrize("length", [1, 511, 512, 513, 16_000])
def test_silence_of_any_length_has_no_speech(ready: Ready, length: int) -> None:
    answer = ready(DetectSpeech)(dsfn.Audio.of(np.zeros(length), RATE_HZ))
    assert answer.segments == []
    assert answer.duration_s == length / RATE_HZ


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 22_050, 44_100, 48_000, 12_347])
def test_resampling_keeps_a_tone(rate_hz: int) -> None:
    again = resampled(tone(rate_hz, 1.7, 440), rate_hz)
    wanted = tone(RATE_HZ, len(again) / RATE_HZ, 440)
    middle = slice(2000, len(again) - 2000)  # at the ends a cut-off tone rings
    assert len(again) == round(int(rate_hz * 1.7) * RATE_HZ / rate_hz)
    assert np.abs(again[middle] - wanted[middle]).max() < 0.01


def test_resampling_removes_what_16_khz_cannot_hold() -> None:
    again = resampled(tone(48_000, 1, 12_000), 48_000)
    assert np.abs(again[1000:-1000]).max() < 0.01


@pytest.mark.parametrize("length", [1, 2, 100])
def test_the_shortest_recordings_are_taken_at_any_rate(ready: Ready, length: int) -> None:
    assert ready(DetectSpeech)(dsfn.Audio.of(np.zeros(length), 48_000)).segments == []


def test_a_header_with_an_absurd_rate_is_refused() -> None:
    with pytest.raises(InvalidInput, match="sample rate"):
        resampled(np.zeros(10, dtype=np.float32), 2_000_000_000)


def test_short_speech_and_short_silence_do_not_count() -> None:
    window_s = 512 / RATE_HZ
    blip = [0.0] * 10 + [0.9] * int(0.2 / window_s) + [0.0] * 10
    assert stretches(blip, len(blip) * 512) == []
    gap = [0.0] * 10 + [0.9] * 20 + [0.0] * 2 + [0.9] * 20 + [0.0] * 10
    assert stretches(gap, len(gap) * 512) == [(10 * 512, 52 * 512)]


def test_padding_takes_at_most_half_of_a_gap_and_stays_inside() -> None:
    assert list(padded([(100, 8000), (8100, 16_000)], 16_200)) == [(0, 8050), (8050, 16_200)]
    assert list(padded([(5000, 9000)], 20_000)) == [(4520, 9480)]
    assert list(padded([], 100)) == []


def test_stretches_are_in_order_and_inside() -> None:
    chosen = random.Random(3)
    for _ in range(200):
        windows = chosen.randrange(1, 120)
        length = windows * 512 - chosen.randrange(512)
        found = list(padded(stretches([chosen.random() for _ in range(windows)], length), length))
        edges = [edge for stretch in found for edge in stretch]
        assert edges == sorted(edges)
        assert all(0 <= edge <= length for edge in edges)


def test_loading_it_leaves_torch_its_threads() -> None:
    code = (
        "import torch; before = torch.get_num_threads();"
        "from dsfn.functions.library.speech import DetectSpeech as d; d.target().setup();"
        "import sys; assert 'silero_vad' not in sys.modules;"
        "assert torch.get_num_threads() == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_restored_function_gives_the_same_bits(
    ready: Ready, restored: Ready, sample: Sample
) -> None:
    audio = dsfn.Audio(sample("speech.ogg"))
    assert restored(DetectSpeech)(audio) == ready(DetectSpeech)(audio)
