"""The wire format of protocol buffers, read from a mapped file field by field.

A general parser makes an object for every message, number and nested group before any of them can be counted; a small
file then fills the memory. Here only the fields that are asked for are looked into, and their number is limited.
https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator

from utility.errors import UserError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; the groups of old, 3 and 4, Caffe never had
_MOST_FIELDS = 30_000  # of a file; a network has some twenty fields a layer
_FIXED = {FIXED64: 8, FIXED32: 4}

Part = tuple[int, int]  # bytes of the file from the first number to before the second


class Message:
    """The fields of one file's messages; all that is read counts towards one limit."""

    def __init__(self, data: memoryview):
        self.data = data
        self._left = _MOST_FIELDS

    def fields(self, part: Part) -> Iterator[tuple[int, int | Part]]:
        """Yield number and value of each field of a message: an int for VARINT, else where its bytes are.

        Raises:
          UserError: the message is cut off or damaged, or the file has too many fields.
        """
        position, end = part
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise UserError(f"as a caffemodel it has more than {_MOST_FIELDS} fields, which no network has")
            tag, position = self._varint(position, end)
            if tag & 7 == VARINT:
                value, position = self._varint(position, end)
                yield tag >> 3, value
                continue
            if tag & 7 == BYTES:
                length, position = self._varint(position, end)
            elif tag & 7 in _FIXED:
                length = _FIXED[tag & 7]
            else:
                raise damaged()
            if length > end - position:
                raise damaged()
            yield tag >> 3, (position, position + length)
            position += length

    def varints(self, part: Part, most: int) -> list[int]:
        """Return a packed list of at most `most` int64; a UserError if there are more."""
        position, end = part
        numbers: list[int] = []
        while position < end:
            if len(numbers) == most:
                raise UserError(f"as a caffemodel it has an array of more than {most} axes")
            number, position = self._varint(position, end)
            numbers.append(signed(number))
        return numbers

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        """Return an unsigned number of up to 64 bits, and the position after it."""
        if position < end and self.data[position] < 128:
            return self.data[position], position + 1
        value = 0
        for count, byte in enumerate(self.data[position : min(end, position + 10)]):
            value |= (byte & 127) << 7 * count
            if byte < 128:
                return value & (1 << 64) - 1, position + count + 1
        raise damaged()


def signed(value: int) -> int:
    """Return the int32 or int64 that a VARINT stands for: both are written as 64 bits in two's complement."""
    return value - (1 << 64 if value >> 63 else 0)


def damaged() -> UserError:
    """Return the error of a message that ends too early or has an unknown wire type."""
    return UserError("as a caffemodel it is damaged or cut off")
