"""Images of a split as batches of tensors; `lib.data.loader` decides which images a batch holds.

Shapes: B images, C labels, S image side.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from lib.common.errors import UserError
from lib.data.bad_images import Unreadable
from lib.data.cache import ImageCache
from lib.data.folder import Split
from lib.data.pictures import read_image
from lib.data.transforms import resize, to_pixels, train_transform


class SampleKey(NamedTuple):
    """An image of an epoch, by its row in the split.

    A padding sample fills a shard that would have no image; it takes no part in the loss.
    """

    epoch: int
    row: int
    is_padding: bool = False


View = Callable[[Image.Image, SampleKey], Image.Image]


class LoadedSample(NamedTuple):
    """A row of a `Batch`, and why its image could not be read."""

    inputs: Tensor
    targets: np.ndarray
    ignore: np.ndarray
    row: int
    error: Unreadable | None = None


class Batch(NamedTuple):
    """`inputs`, `targets` float32 (B, C), `ignore` bool (B, C), `rows` (B,).

    `inputs` are pixels, uint8 (B, 3, S, S), or features of a frozen backbone, float32
    (B, P + N, D). `rows` are those of the split, -1 for padding. `errors` lists the images that
    could not be read; padding takes their places.
    """

    inputs: Tensor
    targets: Tensor
    ignore: Tensor
    rows: Tensor
    errors: list[Unreadable]

    def micro_batches(self, number: int) -> "list[Batch]":
        """`number` batches of about the same size, the larger ones first."""
        tensors = (self.inputs, self.targets, self.ignore, self.rows)
        parts = zip(*(torch.tensor_split(tensor, number) for tensor in tensors), strict=True)
        return [
            Batch(inputs, targets, ignore, rows, self.errors)
            for inputs, targets, ignore, rows in parts
        ]

    def without_padding(self) -> "Batch":
        """The rows that are images."""
        kept = self.rows >= 0
        return self.apply(lambda tensor: tensor[kept])

    def apply(self, function: Callable[[Any], Any]) -> "Batch":
        """With `function` of each tensor."""
        inputs, targets, ignore, rows, errors = self
        return Batch(function(inputs), function(targets), function(ignore), function(rows), errors)


class SplitDataset(Dataset[LoadedSample], ABC):
    """What a network reads of the images of a split, indexed by `SampleKey`."""

    def __init__(self, split: Split) -> None:
        self.split = split

    @abstractmethod
    def read(self, key: SampleKey) -> Tensor:
        """The input of one image. Raises `UserError` for one that cannot be read."""

    @abstractmethod
    def blank(self, key: SampleKey) -> Tensor:
        """What takes the place of an image that cannot be read."""

    @property
    def sample_bytes(self) -> int:
        """Bytes of an input."""
        return self.blank(SampleKey(0, 0)).nbytes

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: SampleKey) -> LoadedSample:
        row, error = key.row, None
        try:
            inputs = self.read(key)
        except UserError as raised:
            inputs, error = self.blank(key), Unreadable(row, str(raised))
        targets, ignore = self.split.targets[row], self.split.ignore[row]
        if key.is_padding:  # the rank that trains on this image reports its error
            return LoadedSample(inputs, targets, np.ones_like(ignore), -1)
        if error:
            return LoadedSample(inputs, targets, np.ones_like(ignore), -1, error)
        return LoadedSample(inputs, targets, ignore, row)


class ImageDataset(SplitDataset):
    """Pixels, uint8 (3, S, S).

    `exif` is how files are read. `view` makes the S x S image from a decoded image and its key:
    `training_view` or `evaluation_view` with their settings bound. Images of a `cache` are S x S
    already.
    """

    def __init__(
        self, split: Split, view: View, exif: str, cache: ImageCache | None = None
    ) -> None:
        super().__init__(split)
        self.view = view
        self.exif = exif
        self.cache = cache

    def read(self, key: SampleKey) -> Tensor:
        """Pixels of one image."""
        return to_pixels(self.view(self._image(key.row), key))

    def blank(self, key: SampleKey) -> Tensor:
        """Pixels of a black image."""
        return to_pixels(self.view(Image.new("RGB", (1, 1)), key))

    def _image(self, row: int) -> Image.Image:
        if self.cache:
            return self.cache.image(row)
        return read_image(self.split.paths[row], self.exif)


def training_images(
    split: Split,
    *,
    image_size: int,
    exif: str,
    augment: str,
    seed: int,
    cache: ImageCache | None = None,
) -> ImageDataset:
    """The images of a split through the train transform."""
    view = partial(training_view, size=image_size, augment=augment, seed=seed)
    return ImageDataset(split, view, exif, cache)


def evaluation_images(
    split: Split, *, image_size: int, exif: str, cache: ImageCache | None = None
) -> ImageDataset:
    """The images of a split through the eval transform."""
    return ImageDataset(split, partial(evaluation_view, size=image_size), exif, cache)


def training_view(
    image: Image.Image, key: SampleKey, *, size: int, augment: str, seed: int
) -> Image.Image:
    """The train transform; its random draws depend on (seed, epoch, row) alone."""
    return train_transform(image, size, augment, generator_of(key, seed))


def generator_of(key: SampleKey, seed: int) -> np.random.Generator:
    """The generator of an image's random draws."""
    return np.random.default_rng((seed, key.epoch, key.row))


def evaluation_view(image: Image.Image, key: SampleKey, *, size: int) -> Image.Image:
    """The eval transform, the same for every key."""
    return resize(image, size)


def collate(samples: Sequence[LoadedSample]) -> Batch:
    """Stack samples into a `Batch`.

    The inputs of readable images replace those of unreadable ones, so that batch statistics come
    from real images.
    """
    inputs, targets, ignore, rows, errors = zip(*samples, strict=True)
    read = [one for one, error in zip(inputs, errors, strict=True) if not error] or inputs
    inputs = [read[place % len(read)] if errors[place] else one for place, one in enumerate(inputs)]
    return Batch(
        torch.stack(inputs),
        torch.from_numpy(np.stack(targets)).float(),
        torch.from_numpy(np.stack(ignore)),
        torch.tensor(rows),
        [error for error in errors if error],
    )
