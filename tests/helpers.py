"""What several tests need."""

from utility.presets import preset

VOC_LIKE = tuple(f"class{number}" for number in range(1, 21))


def voc_config(**values):
    """The default preset with 20 classes; values as in {"targets__match_threshold": .5}."""
    settings = {name.replace("__", "."): value for name, value in values.items()}
    return preset("ssd300_voc").replace({"class_names": VOC_LIKE, **settings})
