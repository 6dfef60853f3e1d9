"""The summary of a converted split, for `dataset.json` and for the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dataset.conversion.examples import CLIPPED, SIZE_DIFFERS, Example, Remark

BY_SHARD = ("images", "with_objects", "with_objects_not_difficult")  # what is counted in each shard
_MAX_DETAILS = 20  # lines on skipped images and remarks in the log


@dataclass
class Tally:
    """The counts of one split, updated image by image."""

    images: int = 0
    images_without_objects: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    difficult: Counter[str] = field(default_factory=Counter)
    pictures: Counter[str] = field(default_factory=Counter)
    remarks: list[Remark] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    by_shard: dict[str, Counter[int]] = field(default_factory=lambda: {key: Counter() for key in BY_SHARD})

    def add(self, example: Example, shard: int) -> None:
        """Count one more record, in the shard of this number."""
        self.images += 1
        counts = (True, bool(example.objects), not all(labelled.difficult for labelled in example.objects))
        for key, counted in zip(BY_SHARD, counts, strict=True):
            self.by_shard[key][shard] += counted
        self.images_without_objects += not example.objects
        self.objects.update(labelled.name for labelled in example.objects)
        self.difficult.update(labelled.name for labelled in example.objects if labelled.difficult)
        self.pictures.update([example.picture_note] if example.picture_note else [])
        self.remarks.extend(example.remarks)

    def summary(self, class_names: Sequence[str], shards: int) -> dict[str, Any]:
        """Return the counts for `dataset.json`, with every class, in the order of class ids, and every shard."""
        reasons = Counter(remark.reason for remark in self.remarks)
        clipped, size_differs = reasons.pop(CLIPPED, 0), reasons.pop(SIZE_DIFFERS, 0)
        return {
            "images": self.images,
            "images_without_objects": self.images_without_objects,
            "images_by_shard": {key: [counts[n] for n in range(shards)] for key, counts in self.by_shard.items()},
            "objects": {name: self.objects[name] for name in class_names},
            "difficult": {name: self.difficult[name] for name in class_names},
            "dropped": dict(sorted(reasons.items())),
            "clipped": clipped,
            "size_differs": size_differs,
            "pictures": dict(sorted(self.pictures.items())),
            "skipped": self.skipped,
            "remarks": sorted(remark.text for remark in self.remarks),
        }


def lines(prefix: str, summary: dict[str, Any], *, all_remarks: bool) -> list[str]:
    """Return a split's summary as lines of text: its counts, then the skipped images and the remarks."""
    counts = (
        f"{prefix}: {summary['images']} images, {summary['images_without_objects']} of them without objects; "
        f"{sum(summary['objects'].values())} objects, {sum(summary['difficult'].values())} of them difficult"
    )
    faults = {
        **{f"boxes dropped, {reason}": count for reason, count in summary["dropped"].items()},
        "boxes clipped": summary["clipped"],
        "wrong image sizes": summary["size_differs"],
        **{f"pictures {note}": count for note, count in summary["pictures"].items()},
        "images skipped": len(summary["skipped"]),
    }
    details = summary["skipped"] + summary["remarks"]
    logged = details if all_remarks else details[:_MAX_DETAILS]
    more = [f"    and {len(details) - len(logged)} more in dataset.json"] if len(details) > len(logged) else []
    return [
        counts,
        *(f"  {fault}: {count}" for fault, count in faults.items() if count),
        *(f"    {line}" for line in logged),
        *more,
    ]
