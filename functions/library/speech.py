"""Speech detection with Silero VAD: when somebody speaks in a recording.

    dsfn deploy functions/library/speech.py
    dsfn invoke detect-speech --file functions/library/samples/speech.ogg

The model is a TorchScript file in the package `silero-vad`. Thresholds and durations
are the defaults of that package's `get_speech_timestamps`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import nn

import dsfn
from dsfn.functions.invalid import invalid

RATE_HZ = 16_000
RATE_HZ_MAX = 384_000
WINDOW, CONTEXT = 512, 64  # samples that the model takes at a time, and sees again from before
BATCH, FEATURES = 256, 128
SPEECH, SILENCE = 0.5, 0.35  # a probability above the one starts speech, below the other ends it
SPEECH_MIN, SILENCE_MIN, PADDING = (RATE_HZ * ms // 1000 for ms in (250, 100, 30))


class Segment(BaseModel):
    """A stretch of speech, in seconds from the recording's start."""

    start_s: float
    end_s: float


class Speech(BaseModel):
    """A recording's length and the stretches of speech in it."""

    duration_s: float
    segments: list[Segment]


@dsfn.function(name="detect-speech")
class DetectSpeech:
    """Finds the stretches of speech in a recording."""

    def setup(self) -> None:
        package = find_spec("silero_vad")  # not imported: it would set torch's threads to one
        if package is None or package.origin is None:
            raise ModuleNotFoundError("detect-speech needs the package silero-vad.")
        path = Path(package.origin).parent / "data" / "silero_vad.jit"
        model = torch.jit.load(path)._model  # type: ignore[no-untyped-call]  # the 16 kHz half
        self.spectrum, self.encoder = model.stft, model.encoder
        # The model steps through a recording with an LSTM cell; an LSTM takes it in one call.
        self.memory = nn.LSTM(FEATURES, FEATURES)
        cell = model.decoder.rnn.named_parameters()
        self.memory.load_state_dict({f"{name}_l0": weight for name, weight in cell})
        self.head = nn.Linear(FEATURES, 1)
        last = dict(model.decoder.decoder.named_parameters())
        self.head.load_state_dict({"weight": last["2.weight"][:, :, 0], "bias": last["2.bias"]})

    def __call__(self, audio: dsfn.Audio) -> Speech:
        samples, rate_hz = audio.samples()
        wave = resampled(samples.mean(axis=1), rate_hz)
        found = padded(stretches(self.probabilities(wave), len(wave)), len(wave))
        return Speech(
            duration_s=len(samples) / rate_hz,
            segments=[Segment(start_s=a / RATE_HZ, end_s=b / RATE_HZ) for a, b in found],
        )

    # The compiler would spend more on optimising the graph than a whole recording takes.
    @torch.jit.optimized_execution(False)  # type: ignore[attr-defined]
    @torch.inference_mode()
    def probabilities(self, wave: NDArray[np.float32]) -> list[float]:
        """How likely each window of 512 samples is speech, from 0 to 1."""
        filled = np.pad(wave, (CONTEXT, -len(wave) % WINDOW))
        windows = torch.from_numpy(filled).unfold(0, CONTEXT + WINDOW, WINDOW)
        state, outputs = None, []
        for at in range(0, len(windows), BATCH):
            features = self.encoder(self.spectrum(windows[at : at + BATCH]))
            hidden, state = self.memory(features.squeeze(2), state)
            outputs.append(self.head(hidden.relu()).sigmoid())
        probabilities: list[float] = torch.cat(outputs).flatten().tolist()
        return probabilities


def resampled(wave: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """The wave at 16 kHz: its spectrum, cut off or filled with zeros at 8 kHz, turned back."""
    if rate_hz == RATE_HZ:
        return wave
    if rate_hz > RATE_HZ_MAX:
        raise invalid("audio", f"has a sample rate over the limit of {RATE_HZ_MAX} Hz")
    seconds = -(-len(wave) // rate_hz)  # whole ones: lengths that a Fourier transform likes
    spectrum = np.fft.rfft(wave, seconds * rate_hz)
    again = np.fft.irfft(spectrum, seconds * RATE_HZ) * (RATE_HZ / rate_hz)
    return again[: max(1, round(len(wave) * RATE_HZ / rate_hz))].astype(np.float32)


def stretches(probabilities: list[float], length: int) -> list[tuple[int, int]]:
    """Start and end, in samples, of each stretch of speech."""
    found: list[tuple[int, int]] = []
    start = end = -1
    for at, probability in zip(range(0, length, WINDOW), probabilities, strict=True):
        if probability >= SPEECH:
            start, end = (at if start < 0 else start), -1
        elif probability < SILENCE and start >= 0:
            end = at if end < 0 else end
            if at - end >= SILENCE_MIN:
                found.append((start, end))
                start = end = -1
    if start >= 0:
        found.append((start, length))
    return [(a, b) for a, b in found if b - a > SPEECH_MIN]


def padded(found: list[tuple[int, int]], length: int) -> Iterator[tuple[int, int]]:
    """Each stretch with some silence on both sides, but at most half of what lies between two."""
    for i, (start, end) in enumerate(found):
        before = start if i == 0 else (start - found[i - 1][1]) // 2
        after = length - end if i == len(found) - 1 else (found[i + 1][0] - end) // 2
        yield start - min(PADDING, before), end + min(PADDING, after)
