"""Protocol-buffer messages from a short schema in Python, without protoc and without importing TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
BYTES, FLOAT, INT32, INT64 = _Field.TYPE_BYTES, _Field.TYPE_FLOAT, _Field.TYPE_INT32, _Field.TYPE_INT64

Schema = Mapping[str, Sequence[tuple[str, int, int | str]]]
"""Message -> its fields: name, number, and a type above or the name of a message in the schema.

Every field is repeated; on the wire, a repeated field with one value is the same as a single field. Lists of numbers
are written packed and read in either form (proto3).
"""


def message_classes(package: str, schema: Schema) -> dict[str, Any]:
    """Return message name -> class, for every message of the schema; `package` only keeps the names apart."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for message, fields in schema.items():
        descriptor = file.message_type.add(name=message)
        for name, number, kind in fields:
            field = descriptor.field.add(name=name, number=number, label=_Field.LABEL_REPEATED)
            if isinstance(kind, str):
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".{package}.{kind}"
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()  # its own, so that names cannot clash with TensorFlow's messages
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in schema}
