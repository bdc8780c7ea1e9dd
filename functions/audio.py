"""Audio, decoded through libsndfile when asked for."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, ClassVar

from dsfn.functions.interface import Kind
from dsfn.functions.invalid import invalid
from dsfn.functions.part import Media
from dsfn.functions.values import dataclass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_AUDIO_S = 4 * 3600
# A few kilobytes of compressed silence can announce gigabytes: 1 GiB of float32 is the most.
MAX_AUDIO_SAMPLES = 1 << 28


@dataclass(frozen=True)
class Audio(Media):
    """Encoded sound: `data` with its content type, such as `audio/wav`.

    WAV, FLAC, OGG, MP3 and what else libsndfile reads; other formats travel as `File`.
    """

    kind: ClassVar[Kind] = "audio"
    needs: ClassVar[str] = "soundfile"

    def samples(self) -> tuple[NDArray[np.float32], int]:
        """Samples from -1 to 1 as float32 of shape [frames, channels], and the rate in Hz.

        Raises `InvalidInput` when the bytes cannot be read or are over a limit.
        """
        return self._read("audio")

    def check(self, field: str) -> None:
        """Reads the header only. Raises `InvalidInput` naming `field`."""
        import soundfile

        try:
            with soundfile.SoundFile(io.BytesIO(self.data)) as sound:
                _check_length(sound, field)
        except soundfile.LibsndfileError as error:
            raise invalid(field, f"is not audio that can be read ({error})") from error

    @classmethod
    def of(cls, samples: Any, sample_rate_hz: int) -> Audio:
        """Encodes samples of shape [frames] or [frames, channels] as 16-bit WAV."""
        import soundfile

        out = io.BytesIO()
        soundfile.write(out, samples, sample_rate_hz, format="WAV", subtype="PCM_16")
        return cls(out.getvalue(), "audio/wav")

    def _read(self, field: str) -> tuple[NDArray[np.float32], int]:
        import soundfile

        try:
            with soundfile.SoundFile(io.BytesIO(self.data)) as sound:
                _check_length(sound, field)
                return sound.read(dtype="float32", always_2d=True), int(sound.samplerate)
        except soundfile.LibsndfileError as error:
            raise invalid(field, f"is not audio that can be read ({error})") from error


def _check_length(sound: Any, field: str) -> None:
    if sound.frames <= 0:
        raise invalid(field, "holds no sound")
    if sound.frames > MAX_AUDIO_S * sound.samplerate:
        raise invalid(field, f"is longer than the limit of {MAX_AUDIO_S} seconds")
    if sound.frames * sound.channels > MAX_AUDIO_SAMPLES:
        raise invalid(field, f"has more samples than the limit of {MAX_AUDIO_SAMPLES}")
