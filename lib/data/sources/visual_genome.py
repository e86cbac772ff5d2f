"""Names for the 500 labels of Visual Genome, which are published as numbers only.

Each label takes the object name that was given to the most similar set of images. Shapes: N images,
C labels, K names.
"""

from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from scipy import sparse

from lib.common.readers import decode_json
from lib.data.lists import is_label


class Object(msgspec.Struct, gc=False):  # millions, which hold no references
    """An object of an image: its box in pixels, and its names, or its one name (version 1.0)."""

    x: float
    y: float
    w: float
    h: float
    names: tuple[str, ...] | None = None
    name: str | None = None

    @property
    def box(self) -> list[float]:
        return [self.x, self.y, self.x + self.w, self.y + self.h]

    @property
    def labels(self) -> set[str]:
        """The names that a label can have, in lower case."""
        names = (self.name or "",) if self.names is None else self.names
        return {name for text in names if (name := _label(text))}


class Record(msgspec.Struct, gc=False):
    """An image with its objects; version 1.0 of the file calls its number `id`."""

    objects: tuple[Object, ...]
    image_id: int | None = None
    id: int | None = None


class Name(NamedTuple):
    """A label's name, the object name it is made of, and how well the two image sets overlap."""

    label: str
    object_name: str
    overlap: float


def read_objects(file: Path, images: Collection[str]) -> dict[str, tuple[Object, ...]]:
    """The objects of the listed images, `NUMBER.jpg`, in any version of objects.json."""
    listed = {Path(image).stem: image for image in images}
    found: dict[str, tuple[Object, ...]] = {}
    for record in decode_json(file, list[Record]):
        number = record.id if record.image_id is None else record.image_id
        if image := listed.get(str(number)):
            found[image] = found.get(image, ()) + record.objects
    return found


def names_by_overlap(
    targets: sparse.csr_array, names: Sequence[str], named: sparse.csr_array
) -> list[Name]:
    """Name the C columns of `targets` (N, C) by the K `names`, sorted, of `named` (N, K).

    Both hold 0 and 1. A label takes the name of highest intersection over union, the first of
    equals; a name that an earlier label has gets ` (index)`. Gives a `Name` for each label.
    """
    in_label, in_name = targets.sum(axis=0), named.sum(axis=0)
    shared = (targets.T @ named).tocsr()
    found: list[Name] = []
    taken = set()
    for column in range(targets.shape[1]):
        part = slice(shared.indptr[column], shared.indptr[column + 1])
        candidates, both = shared.indices[part], shared.data[part]
        overlap = np.zeros(len(names))
        overlap[candidates] = both / (in_label[column] + in_name[candidates] - both)
        best = int(np.argmax(overlap))
        label = f"{names[best]} ({column})" if names[best] in taken else names[best]
        taken.add(names[best])
        found.append(Name(label, names[best], float(overlap[best])))
    return found


@cache  # millions of objects share some ten thousand names
def _label(text: str) -> str | None:
    """`text` in lower case; None where no label can be called so."""
    name = text.lower().strip()
    return name if is_label(name) else None
