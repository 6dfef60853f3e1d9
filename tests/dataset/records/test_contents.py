"""The counts over records."""

import numpy as np

from dataset.records.contents import count_lines


def example(boxes_yxyx, labels, difficult, width=500, height=375):
    return {
        "width": np.int32(width),
        "height": np.int32(height),
        "boxes_yxyx": np.array(boxes_yxyx, np.float32).reshape(-1, 4),
        "labels": np.array(labels, np.int64),
        "difficult": np.array(difficult, bool),
    }


def test_counts():
    examples = [
        example([], [], []),
        example([[0, 0, 0.05, 0.05], [0, 0, 1, 1], [0.5, 0.5, 0.5, 0.9]], [2, 2, 3], [True, False, False]),
        example([[0.5, 0.5, 0.2, 0.2]], [1], [False], width=300),
    ]
    lines = count_lines(examples, ("cat", "dog"))
    assert lines[0] == "3 images, 1 of them without objects; 4 objects, 1 of them difficult, 2 without area"
    assert lines[1] == "images, width x height: 500x375 (2), 300x375 (1)"
    assert [line.split() for line in lines[3:6]] == [
        ["1", "cat", "1", "0", "1"],
        ["2", "dog", "2", "1", "1"],
        ["3", "class", "3", "1", "0", "1"],
    ]
    assert [line.split()[-1] for line in lines[-6:]] == ["1", "0", "0", "0", "0", "1"]


def test_records_without_an_object():
    assert count_lines([example([], [], [])], ())[0].startswith("1 images, 1 of them without objects; 0 objects")
