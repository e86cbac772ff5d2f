"""Small copies of images as data URIs."""

import base64
import io
import os

from PIL import Image

from lib.common.cli import UPRIGHT
from lib.common.errors import UserError
from lib.data.dataset import read_image

SIDE = 168  # pixels of the longer one


def thumbnail(path: str, exif: str = UPRIGHT, side: int = SIDE) -> Image.Image | None:
    """A small copy of an image; None if it cannot be read any more."""
    if not os.path.isfile(path):
        return None
    try:
        image = read_image(path, exif)
    except UserError:
        return None
    image.thumbnail((side, side))
    return image


def data_uri(image: Image.Image) -> str:
    """The image as a JPEG inside a URI."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
