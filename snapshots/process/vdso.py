"""The kernel's own library in each process, which is elsewhere in each.

What has asked it for the time before goes on asking where it was: there, an image has a copy of it
whose functions jump to those of the new process's. Its format is that of ELF: see elf(5).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack, unpack_from

_DYNAMIC = 2
_STRINGS, _SYMBOLS = 5, 6
_HEADER_BYTES, _ENTRY_BYTES, _SYMBOL_BYTES = 56, 16, 24


def functions_of(library: bytes) -> dict[bytes, int]:
    """Where its functions are, counted from its begin."""
    tags = dict(_dynamic(library))
    strings, symbol = tags[_STRINGS], tags[_SYMBOLS] + _SYMBOL_BYTES  # the first is none
    found = {}
    # The strings come after the symbols, as all linkers have it; nothing else says how many.
    while symbol + _SYMBOL_BYTES <= strings:
        name, kind, _, section, value, _ = unpack_from("<IBBHQQ", library, symbol)
        if section and kind & 0xF == 2:
            begin = strings + name
            found[library[begin : library.index(b"\0", begin)]] = value
        symbol += _SYMBOL_BYTES
    return found


def jumps(old: bytes, new: bytes, new_begin: int) -> Iterator[tuple[int, bytes]]:
    """What to write where into `old` so that its functions are those of `new`."""
    places = functions_of(new)
    for name, offset in functions_of(old).items():
        if name in places:
            # mov rax, address; jmp rax
            yield offset, b"\x48\xb8" + pack("<Q", new_begin + places[name]) + b"\xff\xe0"


def _dynamic(library: bytes) -> Iterator[tuple[int, int]]:
    (table,), (count,) = unpack_from("<Q", library, 0x20), unpack_from("<H", library, 0x38)
    for each in range(table, table + count * _HEADER_BYTES, _HEADER_BYTES):
        kind, _, entry = unpack_from("<IIQ", library, each)
        if kind == _DYNAMIC:
            while (tag := unpack_from("<QQ", library, entry))[0]:
                yield tag
                entry += _ENTRY_BYTES
