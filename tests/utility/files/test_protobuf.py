"""Messages made from a schema, against TensorFlow's message classes and the wire format of the specification."""

import subprocess
import sys

import tensorflow.compat.v1 as tf

from utility.files.protobuf import BYTES, FLOAT, INT32, INT64, message_classes
from utility.run.command import ROOT

SCHEMA = {
    "Point": [("x", 1, INT32), ("y", 2, INT64)],
    "Path": [("name", 1, BYTES), ("points", 3, "Point"), ("lengths", 16, FLOAT)],
}


def test_the_bytes_are_those_of_the_specification():
    message = message_classes("wire", SCHEMA)["Path"](name=[b"ab"], points=[{"x": [1, 300]}], lengths=[1.0])
    assert message.SerializeToString() == b"\x0a\x02ab\x1a\x05\x0a\x03\x01\xac\x02\x82\x01\x04\x00\x00\x80\x3f"


def test_single_and_unpacked_values_and_unknown_fields_are_read():
    unknown = b"\x4a\x01x"
    message = message_classes("parsed", SCHEMA)["Path"].FromString(b"\x1a\x04\x08\x01\x08\x02" + unknown)
    assert list(message.points[0].x) == [1, 2]


def test_the_same_names_in_two_schemas_and_in_tensorflow_do_not_clash():
    first = message_classes("tensorflow", {"Example": [("a", 1, BYTES)]})["Example"]
    second = message_classes("tensorflow", {"Example": [("b", 2, INT64)]})["Example"]
    assert first(a=[b"x"]).SerializeToString() == b"\x0a\x01x"
    assert second(b=[1]).SerializeToString() == b"\x12\x01\x01"
    assert tf.train.Example().SerializeToString() == b""


def test_tensorflow_is_not_imported():
    code = "import sys, utility.files.protobuf, dataset.records.schema; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
