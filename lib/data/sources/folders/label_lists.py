"""A folder of .txt files, one a label, each with the images that have it, as MIRFLICKR has them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.common.readers import numbered_lines
from lib.data.sources.annotations import AnnotatedImage, ReadOptions, image_at


def label_lists(folder: Path) -> Sequence[Path]:
    """The .txt files of a folder that list an image a line, each once; none of a folder with fewer
    than two of them."""
    files = sorted(file for file in folder.glob("*.txt") if not file.name.startswith("."))
    found = [file for file in files if _is_list(file)]
    return found if len(found) > 1 else ()


def read_label_lists(folder: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """The images of all lists: a file's name, or its number, which may follow `im`. An image that
    is in no list is not known."""
    images: dict[str, AnnotatedImage] = {}
    for file in label_lists(folder):
        for number, name in _lines(file):
            if name not in images:
                names = [name, f"im{name}"] if name.isdecimal() else [name]
                images[name] = image_at(names, options, (folder, folder.parent), f"{file}:{number}")
            images[name].add(file.stem)
    print_line(f"{folder}: {len(images)} images in the lists; those in none are left out")
    return list(images.values())


def _is_list(file: Path) -> bool:
    try:
        names = [name for _, name in _lines(file)]
    except UserError:
        return False
    return len(set(names)) == len(names) > 0 and not any(set(name) & set(" \t,;") for name in names)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    return ((number, line.strip()) for number, line in numbered_lines(file) if line.strip())
