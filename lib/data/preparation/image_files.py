"""Finds the image files that annotations name, where names differ in small ways."""

import difflib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lib.data.pictures import IMAGE_ENDINGS
from lib.data.sources.annotations import AnnotatedImage

HASHED = re.compile(r"^[0-9a-f]{8}-")  # before a file's name, after an upload to Label Studio
ANOTHER_NAME = "under another name, which the form gives too"
MAX_HINTS = 3  # missing files for which a similar name is searched


def find_images(
    samples: Sequence[AnnotatedImage], images: Path | None, extension: str | None
) -> list[str]:
    """Set the path of each sample to its file; gives notes on those that are not named exactly.

    A path is tried as it is, then with `extension`, in another letter case or Unicode form, and
    without a missing ending; then below `images` without its first folders, and by its bare file
    name. Each counts only where one file fits. A sample without a file keeps its path.
    """
    finder = _Finder(images, extension)
    how: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for sample in samples:
        paths = [sample.path, *sample.other_paths]
        path, difference = finder.find(paths) or (sample.path, "")
        if difference:
            how[difference] += 1
            examples.setdefault(difference, f"{os.path.basename(paths[0])!r} is {path}")
        sample.listed, sample.path, sample.other_paths = paths[0], path, ()
    notes = [
        f"{count} image files found {name}, for example {examples[name]}"
        for name, count in how.items()
    ]
    for name, (one, other, *_) in list(finder.ambiguous.items())[:1]:
        notes.append(
            f"{len(finder.ambiguous)} names are there several times below --images, for example "
            f"{name!r} at {one} and {other}: the source must name their folders"
        )
    return notes


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
        self.folders: dict[str, dict[str, list[str]]] = {}  # folder -> folded name -> names
        self.stems: dict[str, dict[str, list[str]]] = {}  # folder -> folded stem -> image files
        self.below: dict[str, list[str]] | None = None  # folded name -> paths below `images`
        self.ambiguous: dict[str, list[str]] = {}  # name -> its paths below `images`

    def find(self, paths: Sequence[str]) -> tuple[str, str] | None:
        """The path of a file and how it differs: "" for not at all. The first path first."""
        if self.extension:
            paths = [path if _has_ending(path) else path + self.extension for path in paths]
        for path in paths:
            if self._is_file(path):
                return path, "" if _stem(path) == _stem(paths[0]) else ANOTHER_NAME
        for path in paths:
            if (found := self._similar(path)) or (found := self._similar(_of_url(path))):
                same = _stem(path) == _stem(paths[0])
                return found if same else (found[0], ANOTHER_NAME)
        if not self.images or self._is_below_a_folder(paths[0]):
            return None  # another file of this name in another folder is another picture
        for path in paths:
            if below := self._without_folders(_of_url(path)):
                return below, "below --images without the first folders of their names"
            if anywhere := self._anywhere(os.path.basename(_of_url(path))):
                return anywhere, "below --images by the file name alone"
        return None

    def _is_below_a_folder(self, path: str) -> bool:
        """Whether a path names a folder below `images`, and this folder is there."""
        folder = os.path.dirname(path)
        return folder != str(self.images) and bool(folder) and self._folder(folder) is not None

    def _similar(self, path: str) -> tuple[str, str] | None:
        """A file that differs in letter case, Unicode form, or by its ending."""
        folder, name = os.path.split(path)
        real = self._folder(folder)
        if real is None or not name:
            return None
        names = self._names(real).get(_folded(name), [])
        files = [one for one in names if os.path.isfile(os.path.join(real, one))]
        if len(files) == 1:
            return os.path.join(real, files[0]), "in another letter case or Unicode form"
        if real not in self.stems:
            self.stems[real] = _by_stem(self._names(real))
        if _has_ending(name):
            return None
        number = name.removesuffix(".0")  # as pandas writes a whole number
        for stem in dict.fromkeys((name, number)):
            if len(found := self.stems[real].get(_folded(stem), [])) == 1:
                return os.path.join(real, found[0]), "with the ending that was missing"
        if len(same := self.stems[real].get(_of_number(number), [])) == 1:
            return os.path.join(real, same[0]), "by their number"
        return None

    def _folder(self, path: str) -> str | None:
        """A folder whose name may differ in letter case or Unicode form."""
        if path == "" or os.path.isdir(path):
            return path
        parent, name = os.path.split(path)
        if not name or parent == path:
            return None
        real = self._folder(parent)
        if real is None:
            return None
        found = [
            joined
            for one in self._names(real).get(_folded(name), [])
            if os.path.isdir(joined := os.path.join(real, one))
        ]
        return found[0] if len(found) == 1 else None

    def _without_folders(self, path: str) -> str | None:
        """The file below `images` that is left when the first folders of its path are left out,
        as few of them as possible, and not all."""
        assert self.images
        folders = path.removeprefix(f"{self.images.as_posix()}/").split("/")
        for start in range(1, len(folders) - 1):
            shorter = (self.images / "/".join(folders[start:])).as_posix()
            if self._is_file(shorter):
                return shorter
            if found := self._similar(shorter):
                return found[0]
        return None

    def _anywhere(self, name: str) -> str | None:
        """The one file below `images` with this name, or with this stem where it has no ending."""
        assert self.images
        if self.below is None:
            self.below = defaultdict(list)
            for folder, _, names in os.walk(self.images):
                for one in names:
                    if _has_ending(one):
                        path = os.path.join(folder, one)
                        self.below[_folded(one)].append(path)
                        self.below[_folded(os.path.splitext(one)[0])].append(path)
        for one in dict.fromkeys((name, HASHED.sub("", name))):
            if len(found := self.below.get(_folded(one), [])) == 1:
                return found[0]
            if found:
                self.ambiguous[name] = sorted(found)
        return None

    def _is_file(self, path: str) -> bool:
        folder, name = os.path.split(path)
        return name in self._names(folder).get(_folded(name), ()) and os.path.isfile(path)

    def _names(self, folder: str) -> dict[str, list[str]]:
        if folder not in self.folders:
            folded: dict[str, list[str]] = defaultdict(list)
            for name in _listed(folder):
                folded[_folded(name)].append(name)
            self.folders[folder] = folded
        return self.folders[folder]


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder or "."))
    except (OSError, ValueError):  # the latter for what can be no path
        return []


def _by_stem(names: dict[str, list[str]]) -> dict[str, list[str]]:
    stems: dict[str, list[str]] = defaultdict(list)
    for name in (one for many in names.values() for one in many):
        if _has_ending(name):
            stem = _folded(os.path.splitext(name)[0])
            stems[stem].append(name)
            if stem.isdecimal():
                stems[_of_number(stem)].append(name)
    return stems


def _of_number(stem: str) -> str:
    """The same text for a number with and without leading zeros, and one that no file has."""
    return f"\0{stem.lstrip('0')}"


def _folded(name: str) -> str:
    """The same text for names that differ in letter case or Unicode form."""
    return unicodedata.normalize("NFC", name).casefold()


def _stem(path: str) -> str:
    """A file's name without the ending of an image."""
    name = os.path.basename(path)
    return _folded(os.path.splitext(name)[0] if _has_ending(name) else name)


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
