"""nvCOMP's ANS coder on batches of chunks, through the C API of the library.

Structures and functions are those of `nvcomp/ans.h` of nvCOMP 6 (it comes with the package
nvidia-libnvcomp-cu13; https://docs.nvidia.com/cuda/nvcomp/c_api.html). All arrays of a batch may
lie in pinned host memory, where the GPU reads and writes them itself.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char, c_int, c_size_t, c_uint8, c_uint32, c_void_p

from dsfn.functions.errors import DeviceFault
from dsfn.functions.values import dataclass

_MAJOR = 6
_RANS = 0
_FLOAT16 = 10  # any 2-byte float: the upper bytes are coded, the lower ones kept
_BACKEND_CUDA = 2
_STATES_PER_LANE = 1  # 1 % fewer bytes than with 2, and as fast with chunks of 128 KiB


class _CompressOptions(ctypes.Structure):
    _fields_ = (
        ("type", c_int),
        ("data_type", c_int),
        ("max_sub_chunk_count", c_uint8),
        ("states_per_lane", c_uint8),
        ("histogram_reduction_log2", c_uint8),
        ("reserved", c_char * 53),
    )


class _DecompressOptions(ctypes.Structure):
    _fields_ = (
        ("backend", c_int),
        ("data_type", c_int),
        ("max_sub_chunk_count", c_uint8),
        ("states_per_lane", c_uint8),
        ("skip_validate", c_uint8),
        ("reserved", c_char * 53),
    )


class _Properties(ctypes.Structure):
    _fields_ = (("version", c_uint32), ("cudart_version", c_uint32))


@dataclass(frozen=True, slots=True)
class Batch:
    """Addresses of a batch's arrays, one entry a chunk: where each is coded and plain and how
    many bytes it has there (8 bytes an entry), and how each went (4 bytes, 0: well). `written`
    is where decoding leaves the sizes that it found."""

    count: int
    coded: int
    coded_sizes: int
    plain: int
    plain_sizes: int
    written: int
    statuses: int


class Ans:
    """The coder for chunks of up to `chunk_bytes`; the calling thread has a CUDA context.

    Raises `DeviceFault` without the library, or with another version of it.
    """

    def __init__(self, chunk_bytes: int) -> None:
        self._library = _load()
        self._library.nvcompGetStatusString.restype = ctypes.c_char_p
        self._chunk_bytes = chunk_bytes
        self._encoding = _CompressOptions(_RANS, _FLOAT16, 0, _STATES_PER_LANE)
        self._decoding = _DecompressOptions(_BACKEND_CUDA, _FLOAT16, 0, _STATES_PER_LANE)
        properties = _Properties()
        self._call("nvcompGetProperties", ctypes.byref(properties))
        major, minor = divmod(properties.version // 100, 10)
        self.name = f"nvCOMP {major}.{minor} ANS"
        if major != _MAJOR:
            raise DeviceFault(f"{self.name} is not of version {_MAJOR}.")

    @property
    def max_coded_bytes(self) -> int:
        """The most that a chunk can take when coded."""
        return self._size(
            "nvcompBatchedANSCompressGetMaxOutputChunkSize",
            c_size_t(self._chunk_bytes),
            self._encoding,
        )

    def encode_room_bytes(self, count: int) -> int:
        """The room that `encode` needs for so many chunks."""
        return self._room("nvcompBatchedANSCompressGetTempSize", self._encoding, count)

    def decode_room_bytes(self, count: int) -> int:
        """The room that `decode` needs for so many chunks."""
        return self._room("nvcompBatchedANSDecompressGetTempSize", self._decoding, count)

    def encode(self, batch: Batch, room: int, room_bytes: int, stream: int) -> None:
        """Codes plain chunks, whose bytes are an even number; each finds `max_coded_bytes` of
        place. The coded sizes are there when the stream gets there, as the statuses are."""
        self._call(
            "nvcompBatchedANSCompressAsync",
            c_void_p(batch.plain),
            c_void_p(batch.plain_sizes),
            c_size_t(self._chunk_bytes),
            c_size_t(batch.count),
            c_void_p(room),
            c_size_t(room_bytes),
            c_void_p(batch.coded),
            c_void_p(batch.coded_sizes),
            self._encoding,
            c_void_p(batch.statuses),
            c_void_p(stream),
        )

    def decode(self, batch: Batch, room: int, room_bytes: int, stream: int) -> None:
        """Decodes chunks. Their statuses are there when the stream gets there."""
        self._call(
            "nvcompBatchedANSDecompressAsync",
            c_void_p(batch.coded),
            c_void_p(batch.coded_sizes),
            c_void_p(batch.plain_sizes),
            c_void_p(batch.written),
            c_size_t(batch.count),
            c_void_p(room),
            c_size_t(room_bytes),
            c_void_p(batch.plain),
            self._decoding,
            c_void_p(batch.statuses),
            c_void_p(stream),
        )

    def _room(self, name: str, options: ctypes.Structure, count: int) -> int:
        total = c_size_t(count * self._chunk_bytes)
        size = c_size_t()
        self._call(
            name,
            c_size_t(count),
            c_size_t(self._chunk_bytes),
            options,
            ctypes.byref(size),
            total,
            c_void_p(None),
        )
        return size.value

    def _size(self, name: str, *arguments: object) -> int:
        size = c_size_t()
        self._call(name, *arguments, ctypes.byref(size))
        return size.value

    def _call(self, name: str, *arguments: object) -> None:
        code = int(getattr(self._library, name)(*arguments))
        if code != 0:
            reason = self._library.nvcompGetStatusString(code).decode()
            raise DeviceFault(f"{name} failed: {reason}.", operation=name, code=code)


def _load() -> ctypes.CDLL:
    try:
        # nvidia-libnvcomp-cu13 has no types.
        from nvidia.libnvcomp import load_library  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise DeviceFault("The package nvidia-libnvcomp-cu13 is not installed.") from error
    library: ctypes.CDLL | None = load_library()
    if library is None:
        raise DeviceFault("libnvcomp cannot be loaded.")
    return library
