"""The libraries that a fork server imports ahead for its workers, where they are installed."""

from __future__ import annotations

LIBRARIES = ("pydantic", "torch", "numpy", "PIL.Image", "soundfile", "safetensors")
