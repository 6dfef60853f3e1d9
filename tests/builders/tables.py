"""Tables of LevelDB, the files of checkpoints, with checksums that are right whatever they hold."""

from collections.abc import Iterable

from tests.builders.weight_files import varint
from utility.checkpoints.checkpoint_files import MAGIC
from utility.files.tfrecord import masked_crc


def write_table(entries: Iterable[tuple[bytes, bytes]], *, starts: bytes = bytes(4)) -> bytes:
    """Write a table with one block of entries; `starts` has the positions at which a search may start, 4 bytes each."""
    content = b"".join(varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in entries)
    block = content + starts + (len(starts) // 4).to_bytes(4, "little")
    return finish(framed(block), len(block))


def finish(data: bytes, size: int) -> bytes:
    """End a table whose only block of entries, of a size, begins `data`."""
    handle = varint(0) + varint(size)
    index = varint(0) + varint(1) + varint(len(handle)) + b"\xff" + handle + bytes(4) + (1).to_bytes(4, "little")
    empty = bytes(4) + (1).to_bytes(4, "little")
    handles = varint(len(data)) + varint(len(empty))
    data += framed(empty)
    handles += varint(len(data)) + varint(len(index))
    return data + framed(index) + handles.ljust(40, b"\0") + MAGIC


def framed(block: bytes) -> bytes:
    """Add a block's type, not compressed, and its checksum."""
    return block + b"\0" + masked_crc(block + b"\0")
