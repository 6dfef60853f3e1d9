"""Tables of LevelDB (https://github.com/google/leveldb/blob/main/doc/table_format.md), which checkpoints are made of.

The index of a V2 checkpoint is one, and so is a whole V1 checkpoint; TensorFlow writes them without compression.
"""

from __future__ import annotations

from collections.abc import Iterator

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")  # the end of a table
_FOOTER = 48  # bytes: two handles, padding, and the magic number


def entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a table; its checksums are not compared.

    Raises:
        ValueError: it is cut off, damaged or compressed.
    """
    if len(table) < _FOOTER or not table.endswith(MAGIC):
        raise ValueError("is cut off, or none")
    try:
        position = len(table) - _FOOTER
        for _ in range(2):  # the offset and size of the block of metadata are not needed
            _, position = _varint(table, position)
        for _, handle in _entries(_block(table, table, position)):
            yield from _entries(_block(table, handle, 0))
    except IndexError as error:
        raise ValueError("is damaged") from error


def _block(table: bytes, handle: bytes, position: int) -> bytes:
    """Return the block whose offset and size stand in `handle`, without its type and checksum."""
    offset, position = _varint(handle, position)
    size, _ = _varint(handle, position)
    if offset + size >= len(table) or table[offset + size] != 0:  # type 0: not compressed
        raise IndexError
    return table[offset : offset + size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block.

    A key leaves out what it shares with the one before it; those at which a search may start, whose positions end the
    block, leave out nothing.
    """
    count = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * count
    if count == 0 or end < 0:
        raise IndexError
    starts = [int.from_bytes(block[place : place + 4], "little") for place in range(end, len(block) - 4, 4)]
    whole, position, key = {0}, 0, b""
    while position < end:
        start = position
        shared, position = _varint(block, position)
        added, position = _varint(block, position)
        size, position = _varint(block, position)
        if shared > len(key) or position + added + size > end:
            raise IndexError
        if not shared:
            whole.add(start)
        key = key[:shared] + block[position : position + added]
        position += added + size
        yield key, block[position - size : position]
    if starts[0] or not whole.issuperset(starts):
        raise IndexError


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return an unsigned number of up to 64 bits, and the position after it."""
    value = 0
    for count in range(10):
        byte = data[position + count]
        value |= (byte & 127) << 7 * count
        if byte < 128:
            return value, position + count + 1
    raise IndexError
