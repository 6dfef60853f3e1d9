"""What is in the files that a conversion wrote."""

from dataset.records import record_files
from dataset.records.parsing import read_examples


def contents(folder):
    """The bytes of each file by name; {} when there is no such folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def ids(output, split):
    """The image ids of each shard."""
    shards = record_files.find_shards(output, split)
    return [[example["image_id"].decode() for example in read_examples([shard])] for shard in shards]


def examples_by_id(output, split):
    """The examples of a split by image id."""
    examples = read_examples(record_files.find_shards(output, split))
    return {example["image_id"].decode(): example for example in examples}
