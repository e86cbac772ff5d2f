"""Picture files of every kind: read as the method means them, or refused in one line."""

import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from lib.common.errors import UserError
from lib.data.augment import TRAIN_TRANSFORMS, resize
from lib.data.dataset import read_image
from lib.data.pictures import read_header
from lib.experiment.network import Normalizer
from tests.helpers.refusals import refused
from tests.lib.data.conftest import require_format

NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE)


def png_that_claims(width: int, height: int) -> bytes:
    """A small file of a picture that would be `width` x `height`."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(3 * 10**6))
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    "file, mode, options",
    [
        ("cmyk.jpg", "CMYK", {}),
        ("transparent.png", "P", {"transparency": bytes(range(256))}),
        ("moving.gif", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (30, 20))]}),
        ("moving.webp", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (30, 20))]}),
    ],
)
def test_every_kind_becomes_rgb_without_a_warning(tmp_path, file, mode, options):
    PICTURE.convert(mode).save(tmp_path / file, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_image(tmp_path / file, "stored")
    assert found.mode == "RGB" and found.size == (30, 20)
    with Image.open(tmp_path / file) as image:
        expected = np.asarray(image.convert("RGBA" if "transparency" in image.info else "RGB"))
    np.testing.assert_array_equal(np.asarray(found), expected[..., :3])


@pytest.mark.parametrize("size", [(1, 1), (20_000, 3), (9000, 10_000)])
def test_odd_sizes_are_read_without_a_warning(tmp_path, size):
    """90 million pixels are more than Pillow warns of."""
    Image.new("L", size).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "a.png").size == size


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        *(png_that_claims(60_000, 60_000), png_that_claims(12_000, 12_000)),
        b"\x89PNG\r\n\x1a\n" + bytes(20),
    ],
    ids=["empty", "text", "script", "bomb", "truncated", "head"],
)
def test_what_is_no_picture_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    is_bomb = content == png_that_claims(60_000, 60_000)
    with refused(tmp_path / "a.png", "179 million pixels" if is_bomb else ""):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "ending", ["jpg", "png", "gif", "webp", "bmp", "tif", "jp2", "ppm", "avif", "heic"]
)
def test_damaged_pictures_are_read_or_named(tmp_path, ending):
    """Cut at every tenth of its length, and with bytes changed all over."""
    require_format(ending)
    file = tmp_path / f"a.{ending}"
    PICTURE.save(file)
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    cases = [whole[: len(whole) * tenth // 10] for tenth in range(10)]
    for _ in range(40):
        changed = bytearray(whole)
        for place in random.integers(0, min(len(whole), 200), 4):
            changed[place] = random.integers(256)
        cases.append(bytes(changed))
    refused = 0
    for content in cases:
        file.write_bytes(content)
        try:
            read_header(file)
            assert read_image(file).mode == "RGB"
        except UserError as error:
            assert str(error).startswith(f"{file}: ") and "\n" not in str(error)
            refused += 1
    assert refused


def test_sixteen_bit_grey_is_scaled(tmp_path):
    grey = np.linspace(0, 65535, 16, dtype=np.uint16).reshape(4, 4)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    found = np.asarray(read_image(tmp_path / "deep.png"))
    assert found.shape == (4, 4, 3)
    np.testing.assert_array_equal(found[..., 0], grey // 257)
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tiff")
    with refused(tmp_path / "float.tiff", "floating-point"):
        read_image(tmp_path / "float.tiff")


@pytest.mark.parametrize("bits", [1, 8, 9, 10, 12, 14, 15])
def test_grey_of_fewer_bits_in_a_file_of_16_keeps_its_levels(tmp_path, bits):
    grey = np.linspace(0, 2**bits - 1, 256).astype(np.uint16).reshape(16, 16)
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(grey).save(tmp_path / name)
        found = np.asarray(read_image(tmp_path / name))[..., 0]
        white = 2 ** max(bits, 8) - 1  # an 8-bit picture in a file of 16 bits stays as it is
        np.testing.assert_array_equal(found, np.floor(grey / white * 255 + 1e-9))


def test_eval_transform_is_the_resize_alone():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 33, 3), dtype=np.uint8))
    expected = image.resize((12, 12), Image.Resampling.BILINEAR)
    assert resize(image, 12).tobytes() == expected.tobytes()


def test_augment_levels():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8))
    plain, mirrored = resize(image, 12).tobytes(), None
    mirrored = resize(image, 12).transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes()
    results = {
        level: [
            TRAIN_TRANSFORMS[level](resize(image, 12), np.random.default_rng(seed)).tobytes()
            for seed in range(200)
        ]
        for level in ("none", "flip", "published")
    }
    assert set(results["none"]) == {plain}
    assert set(results["flip"]) == {plain, mirrored}
    assert 70 < results["flip"].count(mirrored) < 130
    assert len(set(results["published"])) > 190


def test_normalizer_scales_and_shifts_per_channel():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    found = Normalizer((0.5, 0.2, 0.0), (0.5, 1.0, 2.0), torch.device("cpu"))(pixels)
    torch.testing.assert_close(found.flatten(), torch.tensor([-1.0, 0.0, 0.5]))
