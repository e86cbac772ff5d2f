"""A folder of pictures with a .txt file of tags beside each, as trainers of diffusion models and
downloaders of image boards have it."""

import re
from pathlib import Path

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.common.readers import numbered_lines
from lib.data.pictures import images_in
from lib.data.sources.annotations import AnnotatedImage, ReadOptions
from lib.data.sources.cells import parts_of

YOLO_LINE = re.compile(r"\d+(\s+-?\d*\.?\d+){4,}")


def has_tag_files(folder: Path) -> bool:
    """Whether half of the pictures in a folder and below, or more, have a .txt file beside them."""
    pictures = images_in(folder)
    return len(pictures) > 0 and 2 * sum(_tag_file(one) is not None for one in pictures) >= len(
        pictures
    )


def read_tag_files(folder: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """The pictures with a .txt file: its tags, separated by commas or lines, or by --separator."""
    pictures = images_in(folder)
    images = []
    for picture in pictures:
        if file := _tag_file(picture):
            image = AnnotatedImage(picture.as_posix(), position=str(file))
            for number, line in numbered_lines(file):
                if YOLO_LINE.fullmatch(line.strip()):
                    raise UserError(
                        f"{file}:{number}: an object of YOLO's: write a data.yaml with train and "
                        "names, and pass it"
                    )
                text = line.replace("\\(", "(").replace("\\)", ")")
                image.add_names(parts_of(text, options.separator or ","))
            images.append(image)
    if len(images) < len(pictures):
        print_line(f"{folder}: left out: {len(pictures) - len(images)} images without a .txt file")
    return images


def _tag_file(picture: Path) -> Path | None:
    """The .txt file of a picture: a.txt or a.jpg.txt for a.jpg."""
    files = picture.with_suffix(".txt"), picture.with_name(f"{picture.name}.txt")
    return next((file for file in files if file.is_file()), None)
