"""Finds the image files that annotations name, where names differ in small ways."""

import difflib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lib.common.console import print_line
from lib.data.pictures import IMAGE_ENDINGS
from lib.data.sources.annotations import AnnotatedImage

HASHED = re.compile(r"^[0-9a-f]{8}-")  # before a file's name, after an upload to Label Studio
ANOTHER_NAME = "under another name, which the form gives too"
NAME, STEM, NUMBER = range(3)
MAX_HINTS = 3  # missing files for which a similar name is searched


def find_images(
    annotated: Sequence[AnnotatedImage], images: Path | None = None, extension: str | None = None
) -> None:
    """Set the path of each image to its file; prints notes on those that are not named exactly.

    A path is tried as it is, then with `extension`, in another letter case or Unicode form, and
    without a missing ending; then below `images` without its first folders, and by its bare file
    name. Each counts only where one file fits. An image without a file keeps its path.
    """
    finder = _Finder(images, extension)
    examples: dict[str, list[str]] = defaultdict(list)
    for image in annotated:
        image.listed, paths = image.path, [image.path, *image.other_paths]
        image.path, difference = finder.find(paths) or (image.path, "")
        if difference:
            examples[difference].append(f"{os.path.basename(image.listed)!r} is {image.path}")
    for difference, found in examples.items():
        print_line(f"{len(found)} image files found {difference}, for example {found[0]}")
    for name, (one, other, *_) in list(finder.ambiguous.items())[:1]:
        print_line(
            f"{len(finder.ambiguous)} names are there several times below --images, for example "
            f"{name!r} at {one} and {other}: the source must name their folders"
        )


def similar_names(missing: Sequence[str]) -> str:
    """For the first missing files: "; did you mean ...?", or nothing."""
    hints = []
    for path in missing[:MAX_HINTS]:
        folder, name = os.path.split(path)
        others = [one for one in _listed(folder)[:5000] if _has_ending(one) and one != name]
        stems = {os.path.splitext(one)[0]: one for one in others}
        close = difflib.get_close_matches(os.path.splitext(name)[0], list(stems), n=1, cutoff=0.8)
        hints += [f"{stems[stem]!r} for {name!r}" for stem in close]
    return f"; did you mean {', '.join(hints)}?" if hints else ""


class _Finder:
    """Lists each folder once."""

    def __init__(self, images: Path | None, extension: str | None) -> None:
        self.images, self.extension = images, extension
        self.folders: dict[str, _Names] = {}
        self.below: _Names | None = None  # paths below `images`
        self.ambiguous: dict[str, list[str]] = {}  # name -> its paths below `images`

    def find(self, paths: Sequence[str]) -> tuple[str, str] | None:
        """The path of a file and how it differs: "" for not at all. The first path first."""
        if self.extension:
            paths = [path if _has_ending(path) else path + self.extension for path in paths]
        found = next(((path, path, "") for path in paths if self._is_file(path)), None)
        if not found:
            tries = ((path, self._similar(path) or self._similar(_of_url(path))) for path in paths)
            found = next(((path, *similar) for path, similar in tries if similar), None)
        if found:
            path, file, difference = found
            is_listed = path == paths[0] or _stem(path) == _stem(paths[0])
            return file, difference if is_listed else ANOTHER_NAME
        folder = os.path.dirname(paths[0])
        if not self.images or (folder not in ("", str(self.images)) and self._folder(folder)):
            return None  # another file of this name in another folder is another picture
        files = (self._below(_of_url(path), self.images) for path in paths)
        return next(((file, "elsewhere below --images") for file in files if file), None)

    def _is_file(self, path: str) -> bool:
        """Whether there is a file of exactly this name; macOS opens one in another letter case."""
        folder, name = os.path.split(path)
        return name in self._names(folder).paths and os.path.isfile(path)

    def _similar(self, path: str) -> tuple[str, str] | None:
        """The one file of a similar name in the folder of `path`, and how it differs."""
        folder, name = os.path.split(path)
        real = self._folder(folder)
        if real is None:
            return None
        for files, difference in self._names(real).similar(name):
            places = [place for one in files if os.path.isfile(place := os.path.join(real, one))]
            if len(places) == 1:
                return places[0], difference
        return None

    def _folder(self, path: str) -> str | None:
        """A folder whose name may differ in letter case or Unicode form."""
        if path == "" or os.path.isdir(path):
            return path
        parent, name = os.path.split(path)
        real = self._folder(parent) if name and parent != path else None
        if real is None:
            return None
        places = [os.path.join(real, one) for one in self._names(real).get(NAME, name)]
        found = [place for place in places if os.path.isdir(place)]
        return found[0] if len(found) == 1 else None

    def _below(self, path: str, images: Path) -> str | None:
        """The file below `images` with the name of `path`: the only one, or the only one in the
        same folders, as many of them as possible."""
        if self.below is None:
            walked = os.walk(images)
            paths = (os.path.join(folder, one) for folder, _, names in walked for one in names)
            self.below = _Names(one for one in paths if _has_ending(one))
        name, folders = os.path.basename(path), _folders(path)
        for files, _ in (*self.below.similar(name), *self.below.similar(HASHED.sub("", name))):
            ranked = defaultdict(list)
            for file in files:
                same = len(os.path.commonprefix([_folders(file), folders]))
                ranked[same, -len(_folders(file)) if same else 0].append(file)
            best = ranked[max(ranked)] if ranked else []
            if len(best) == 1:
                return best[0]
            if best:
                self.ambiguous[name] = sorted(best)
        return None

    def _names(self, folder: str) -> "_Names":
        if folder not in self.folders:
            self.folders[folder] = _Names(_listed(folder))
        return self.folders[folder]


class _Names:
    """Files by what they may be called, see `_keys`."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = dict.fromkeys(paths)
        self.indices: dict[int, dict[str | None, list[str]]] = {}

    def get(self, kind: int, text: str) -> list[str]:
        """The files whose `NAME`, `STEM` or `NUMBER` is `text`."""
        if kind not in self.indices:
            self.indices[kind] = defaultdict(list)
            for path in self.paths:
                self.indices[kind][_keys(path)[kind]].append(path)
        return self.indices[kind].get(_folded(text), [])

    def similar(self, name: str) -> Iterator[tuple[list[str], str]]:
        """The files that `name` may mean, and how they differ, the likeliest first."""
        yield self.get(NAME, name), "in another letter case or Unicode form"
        if name and not _has_ending(name):
            number = name.removesuffix(".0")  # as pandas writes a whole number
            for stem in (name, number):
                yield self.get(STEM, stem), "with the ending that was missing"
            yield self.get(NUMBER, number.lstrip("0")), "by their number"


def _keys(path: str) -> tuple[str, str | None, str | None]:
    """The name of a file; of an image also its stem, and the number that this is, without leading
    zeros."""
    name = _folded(os.path.basename(path))
    stem = os.path.splitext(name)[0] if _has_ending(name) else None
    return name, stem, stem.lstrip("0") if stem and stem.isdecimal() else None


def _folders(path: str) -> list[str]:
    """The folders of a path, the innermost first."""
    return _folded(path).split("/")[-2::-1]


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder or "."))
    except (OSError, ValueError):  # the latter for what can be no path
        return []


def _folded(name: str) -> str:
    """The same text for names that differ in letter case or Unicode form."""
    return unicodedata.normalize("NFC", name).casefold()


def _stem(path: str) -> str:
    """A file's name without the ending of an image."""
    name, stem, _ = _keys(path)
    return name if stem is None else stem


def _has_ending(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in IMAGE_ENDINGS


def _of_url(path: str) -> str:
    """The path of a URL, decoded; other text as it is."""
    if "%" not in path and "?" not in path and "://" not in path and ":/" not in path:
        return path
    try:
        return unquote(urlsplit(path).path)
    except ValueError:
        return path
