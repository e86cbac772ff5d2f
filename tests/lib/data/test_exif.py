"""Pictures that a camera noted to be turned, transparent ones, and HEIC: upright or as stored."""

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from lib.data.dataset import read_image
from lib.data.pictures import IMAGE_ENDINGS, images_in, other_files_in, read_header
from lib.inference.overlays import read_upright
from tests.helpers.refusals import refused
from tests.lib.data.conftest import require_format

SIDE = 8  # of a patch of one grey
GREY = np.arange(0, 240, 40, dtype=np.uint8).reshape(2, 3)
PICTURE = Image.fromarray(np.kron(GREY, np.ones((SIDE, SIDE), np.uint8))).convert("RGB")
TURNED = {  # the patches, as EXIF's orientation asks to show them
    1: GREY,
    2: GREY[:, ::-1],
    3: GREY[::-1, ::-1],
    4: GREY[::-1],
    5: GREY.T,
    6: GREY.T[:, ::-1],
    7: GREY.T[::-1, ::-1],
    8: GREY.T[::-1],
}
FORMATS = [
    ("jpg", {"quality": 95}),
    ("png", {}),
    ("webp", {"lossless": True}),
    ("tif", {}),
    ("tif", {"compression": "tiff_lzw"}),
    ("avif", {"quality": 100}),
    ("heic", {"quality": 100}),
]


def noted(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def patches(image: Image.Image) -> np.ndarray:
    """The grey in the middle of each patch."""
    return np.asarray(image)[SIDE // 2 :: SIDE, SIDE // 2 :: SIDE, 0].astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("ending", "options"), FORMATS)
def test_pictures_are_turned_upright(tmp_path, ending, options, orientation):
    require_format(ending)
    file = tmp_path / f"a.{ending}"
    PICTURE.save(file, exif=noted(orientation).tobytes(), **options)
    for exif in ("upright", "stored"):
        image, header = read_image(file, exif), read_header(file, exif)
        turned = exif == "upright" or ending in ("tif", "heic")  # which their decoders turn
        expected = TURNED[orientation] if turned else GREY
        assert np.abs(patches(image) - expected).max() < 8
        assert header == (image.size, orientation != 1)
        assert not image.getexif()  # or a Predictor would turn it again
    assert read_image(file).tobytes() == read_image(file, "upright").tobytes()
    assert read_header(file) == read_header(file, "upright")


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_note_behind_the_pixels_of_a_png(tmp_path, orientation):
    """As some programs write it; and a header decodes no PNG that has none."""
    PICTURE.save(tmp_path / "late.png")
    content = (tmp_path / "late.png").read_bytes()
    note = b"eXIf" + noted(orientation).tobytes()[6:]
    chunk = struct.pack(">I", len(note) - 4) + note + struct.pack(">I", zlib.crc32(note))
    end = content.index(b"IEND") - 4
    (tmp_path / "late.png").write_bytes(content[:end] + chunk + content[end:])
    assert np.array_equal(patches(read_image(tmp_path / "late.png")), TURNED[orientation])
    size = TURNED[orientation].shape[1] * SIDE, TURNED[orientation].shape[0] * SIDE
    assert read_header(tmp_path / "late.png") == (size, orientation != 1)


def test_a_header_decodes_nothing(tmp_path, monkeypatch):
    PICTURE.save(tmp_path / "a.png")
    PICTURE.save(tmp_path / "a.jpg", exif=noted(8))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("decoded"))
    assert read_header(tmp_path / "a.png") == ((24, 16), False)
    assert read_header(tmp_path / "a.jpg") == ((16, 24), True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("note", [b"Exif\0\0 no such thing", b"Exif\0\0II*\0\xff\xff\xff\xff", b""])
def test_a_broken_or_unknown_note_turns_nothing(tmp_path, note):
    PICTURE.save(tmp_path / "a.png", exif=note or noted(9))
    for exif in ("upright", "stored"):
        assert read_image(tmp_path / "a.png", exif).size == (24, 16)
        assert read_header(tmp_path / "a.png", exif) == ((24, 16), False)
        assert read_upright(tmp_path / "a.png", exif)[1] == 1


def transparent(mode: str) -> tuple[Image.Image, dict]:
    """Left half clear, right half red (or grey), and how to save it."""
    image = Image.new("RGBA", (8, 4), (200, 30, 90, 0))
    image.paste((200, 30, 90, 255), (4, 0, 8, 4))
    if mode == "P":
        palette = Image.new("P", (8, 4), 0)
        palette.putpalette([10, 20, 30, 200, 30, 90])
        palette.paste(1, (4, 0, 8, 4))
        return palette, {"transparency": 0}
    if mode == "RGB":
        colors = Image.new("RGB", (8, 4), (1, 2, 3))
        colors.paste((200, 30, 90), (4, 0, 8, 4))
        return colors, {"transparency": (1, 2, 3)}
    return image.convert(mode), {}


@pytest.mark.parametrize(
    ("ending", "mode"),
    [
        *(("png", mode) for mode in ("RGBA", "LA", "P", "RGB")),
        *(("webp", "RGBA"), ("gif", "P"), ("tif", "RGBA"), ("tif", "LA")),
    ],
)
def test_transparent_pictures_are_laid_over_white(tmp_path, ending, mode):
    image, options = transparent(mode)
    file = tmp_path / f"a.{ending}"
    image.save(file, **options, **({"lossless": True, "exact": True} if ending == "webp" else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, stored = (np.asarray(read_image(file, exif)) for exif in ("upright", "stored"))
    assert (found[:, :4] == 255).all()
    opaque = (89, 89, 89) if mode == "LA" else (200, 30, 90)
    for pixels in (found, stored):
        assert (np.abs(pixels[:, 4:].astype(int) - opaque) < 3).all()
    with Image.open(file) as opened:  # as published
        np.testing.assert_array_equal(stored, np.asarray(opened.convert("RGB")))
    assert not np.array_equal(found, stored)


def test_half_of_a_layer_lets_half_of_the_white_through(tmp_path):
    Image.new("RGBA", (2, 2), (255, 0, 0, 128)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").getpixel((0, 0)) == (255, 127, 127)


def test_opaque_pictures_are_the_same_in_both(tmp_path):
    """Every mode, with an alpha channel that hides nothing, and without a note."""
    for mode in ("RGB", "L", "P", "RGBA", "LA", "1", "CMYK"):
        ending = "tif" if mode == "CMYK" else "png"
        PICTURE.convert(mode).save(tmp_path / f"a.{ending}")
        found = [read_image(tmp_path / f"a.{ending}", exif) for exif in ("upright", "stored")]
        assert found[0].tobytes() == found[1].tobytes() and found[0].mode == found[1].mode == "RGB"


@pytest.mark.parametrize(
    ("endings", "form"),
    [
        (".jpg .jpeg .jpe .jfif .pjpeg .JPG", "JPEG"),
        (".avif", "AVIF"),
        (".heic .heif .hif .HEIC", "HEIF"),
    ],
)
def test_endings_of_cameras_and_browsers(tmp_path, endings, form):
    require_format(endings.split()[0][1:])
    for number, ending in enumerate(endings.split()):
        PICTURE.save(tmp_path / f"{number}{ending}", form)
    (tmp_path / "notes.txt").touch()
    found = images_in(tmp_path)
    assert len(found) == len(endings.split())
    for file in found:
        assert read_image(file).size == (24, 16)
    assert list(other_files_in(tmp_path)) == [tmp_path / "notes.txt"]


def test_a_folder_shows_what_is_not_hidden(tmp_path):
    for name in ("a.png", ".b.png", ".trash/c.png", "d/.e/f.png", "d/g.png", "d/h.txt", ".i.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "folder.png").mkdir()
    assert images_in(tmp_path) == [tmp_path / "a.png", tmp_path / "d" / "g.png"]
    assert {*other_files_in(tmp_path)} == {tmp_path / "gone.png", tmp_path / "d" / "h.txt"}
    other = tmp_path / ".hidden" / "folder"  # that is asked for by name
    other.mkdir(parents=True)
    (other / "a.png").touch()
    assert images_in(other) == [other / "a.png"]


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_is_read_by_its_package(tmp_path, brand):
    """Also where its brand could be AVIF's too, and where its ending says something else."""
    require_format("heic")
    PICTURE.save(tmp_path / "a.heic", quality=100)
    content = bytearray((tmp_path / "a.heic").read_bytes())
    content[8:12] = brand
    (tmp_path / "a.jpg").write_bytes(content)
    assert np.abs(patches(read_image(tmp_path / "a.jpg")) - GREY).max() < 8
    (tmp_path / "cut.heic").write_bytes(content[: len(content) // 2])
    with refused(tmp_path / "cut.heic"):
        read_image(tmp_path / "cut.heic")


def test_heic_without_its_package_names_the_remedy(tmp_path, no_heif):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf")
    for read in (read_image, read_header):
        with refused(tmp_path / "a.heic", "pip install pillow-heif"):
            read(tmp_path / "a.heic")
    (tmp_path / "b.heic").write_bytes(b"no picture at all")
    for read in (read_image, read_header):
        with refused(tmp_path / "b.heic", "no known format"):
            read(tmp_path / "b.heic")
    PICTURE.save(tmp_path / "c.heic", "JPEG")
    assert read_image(tmp_path / "c.heic").size == (24, 16)
    assert ".heic" in IMAGE_ENDINGS


def test_real_photographs_read_the_same_in_both():
    samples = os.environ.get("SAMPLES_DIR")
    if not samples:
        pytest.skip("SAMPLES_DIR is not set to a folder with photographs")
    found = images_in(Path(samples))[:: 1 + len(images_in(Path(samples))) // 60]
    for path in found:
        upright, stored = (read_image(path, exif) for exif in ("upright", "stored"))
        assert read_header(path).turned or upright.tobytes() == stored.tobytes(), path
        expected = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        assert upright.tobytes() == expected.tobytes(), path
