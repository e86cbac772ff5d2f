"""A folder with a folder of pictures for each label; a picture may be in several."""

from collections.abc import Sequence
from pathlib import Path

from lib.common.console import print_line
from lib.data.pictures import IMAGE_ENDINGS, identical_files, images_in
from lib.data.sources.annotations import SPLIT_NAMES, AnnotatedImage, ReadOptions

# folders of pictures that are no labels
OTHERS = {"images", "image", "imgs", "img", "photos", "labels", "masks", "annotations", "data"}
OTHERS |= {
    *SPLIT_NAMES,
    "jpegimages",
    "segmentationclass",
    "segmentationobject",
    "raw",
    "original",
    "originals",
}


def class_folders(folder: Path) -> Sequence[Path]:
    """The folders of labels: two or more, beside which there are no pictures."""
    inside = [path for path in sorted(folder.iterdir()) if path.name[0] not in "._"]
    folders = [path for path in inside if path.is_dir()]
    are_labels = len(folders) > 1 and not OTHERS & {path.name.lower() for path in folders}
    if not are_labels or any(path.suffix.lower() in IMAGE_ENDINGS for path in inside):
        return ()
    return folders if all(map(images_in, folders)) else ()


def read_class_folders(folder: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """The pictures of all folders. Identical files are one picture, with the label of each folder;
    files of the same name may be different pictures."""
    folders = class_folders(folder)
    label_of = {path.as_posix(): one.name for one in folders for path in images_in(one)}
    paths = list(label_of)
    first = {paths[row]: paths[rows[0]] for rows in identical_files(paths) for row in rows}
    images: dict[str, AnnotatedImage] = {}
    for path, label in label_of.items():
        kept = first.get(path, path)
        image = images.setdefault(kept, AnnotatedImage(kept, position=kept))
        image.add(label)
    print_line(f"{folder}: a folder a label: {', '.join(one.name for one in folders[:10])}")
    if len(images) < len(paths):
        print_line(
            f"{folder}: {len(paths)} files of {len(images)} images: identical files were joined"
        )
    return list(images.values())
