"""What the label formats have in common."""

from dataset.records import record_files
from tests.builders import three_formats
from tests.builders.convert import convert_coco, convert_voc, convert_yolo
from tests.builders.files import contents, examples_by_id


def converted(root, count, **flags):
    """The files that each format gives of the same pictures."""
    voc, coco, yolo = three_formats.write(root, count)
    names = root / "names.txt"
    names.write_text("\n".join(three_formats.NAMES))
    outputs = {name: root / f"records_{name}" for name in ("voc", "coco", "yolo")}
    convert_voc(dataset_directory=voc.root, labels_file=str(names), output_directory=outputs["voc"], **flags)
    convert_coco(annotations=coco.path, images=coco.folder, output_directory=outputs["coco"], **flags)
    convert_yolo(dataset_directory=yolo.root, output_directory=outputs["yolo"], **flags)
    return outputs


def test_the_same_pictures_are_the_same_records_by_each_format(tmp_path):
    """Byte for byte: shards and labels.txt; only dataset.json tells the formats apart."""
    voc, coco, yolo = (contents(output) for output in converted(tmp_path, 40, train_shards=3).values())
    for name in {*voc} - {record_files.INFO_NAME}:
        assert voc[name] == coco[name] == yolo[name], name
    assert {*voc} == {*coco} == {*yolo}
    assert sum(len(each["labels"]) for each in examples_by_id(tmp_path / "records_yolo", "train").values()) > 40
