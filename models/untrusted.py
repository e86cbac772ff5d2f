"""Checks of tensors and archives from the files of others, before anything is done with them."""

import zipfile
from pathlib import Path

import torch
from torch import Tensor


def is_plain(value: object) -> bool:
    """Whether `value` is a dense tensor that holds its numbers: not sparse, quantized, of 8-bit
    floats, on the meta device, or a few numbers that a stride of 0 shows as many."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_meta or value.is_quantized)
        and not (value.is_floating_point() and value.itemsize < 2)
        and value.nbytes <= value.untyped_storage().nbytes()
    )


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers of a plain tensor are finite; takes no memory for floats."""
    if tensor.is_floating_point() and tensor.numel():
        return all(bool(edge.isfinite()) for edge in tensor.aminmax())
    return bool(tensor.isfinite().all())


def require_honest_size(path: Path) -> None:
    """Raise `ValueError` for a zip archive that would unpack to more than its own size.

    PyTorch never compresses its files, but reads compressed ones.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
                raise ValueError("its parts are larger than the file")
