"""infer.py from the command line: tags, filters, odd pictures and files that cannot be read."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib.common.errors import UserError
from lib.common.files import write_text
from lib.inference.infer import find_images
from lib.inference.overlays import GAP
from lib.scoring.boxes import box_around
from tests.helpers.commands import Here

LABELS = ["red", "green", "blue"]
COMMAND = "infer.py --exp-dir experiments/toy --workers 0"


class Infer:
    """Runs infer.py on the toy; gives its output and what it wrote."""

    folder = Path("experiments/toy/visualization")

    def __init__(self, commands: Here) -> None:
        self.commands = commands

    def __call__(self, flags="", *more):
        out = self.commands(f"{COMMAND} {flags}", *more).out
        file = self.folder / "predictions.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return out, [json.loads(line) for line in lines]

    def refused(self, where, flags):
        return self.commands.refused(where, f"{COMMAND} {flags}")


@pytest.fixture
def infer(toy, commands) -> Infer:
    return Infer(commands)


def pictures(folder):
    """What the page's data file says of its pictures."""
    text = (folder / "data.js").read_text()
    text = text[text.index('"pictures": ') + len('"pictures": ') : text.rindex("}")]
    return json.loads(text.replace(",\n]", "\n]"))


def scores_of(folder, name):
    with np.load(folder / name, allow_pickle=False) as stored:
        return stored["scores"]


def test_tags_of_pictures(infer):
    """A table per picture in the order given, the unreadable one in the end."""
    names = [f"data/colors/images/test{i}.png" for i in (3, 1)]
    names.append(b"caf\xe9\n.png".decode("utf-8", "surrogateescape"))  # no UTF-8, two lines
    shutil.copy("data/colors/images/test2.png", names[2])
    open(names[1], "wb").write(b"no picture")
    out, lines = infer("--top 2 --threshold 0 --images", *names)
    rows = out.splitlines()
    assert [rows[0], rows[3]] == [names[0], "caf\\udce9\\n.png"]
    assert [line["path"] for line in lines] == [names[0], names[2], names[1]]
    for line, place in zip(lines, (1, 4), strict=False):
        scores = scores_of(infer.folder, line["heatmaps"])
        best = np.argsort(-scores, kind="stable")[:2]
        labels = [LABELS[column] for column in best]
        assert [item["label"] for item in line["predicted"]] == labels
        assert [item["score"] for item in line["predicted"]] == pytest.approx(
            scores[best], abs=1e-6
        )
        assert "verdict" not in line["predicted"][0] and "missed" not in line
        for row, label, column in zip(rows[place:], labels, best, strict=False):
            assert row.split() == [label, f"{scores[column]:.3f}"]
    assert rows[6:9] == [
        "unreadable, left out: 1",
        f"  {names[1]}: not a readable image: of no known format",
        "2 of 3 images",
    ]
    assert lines[2]["error"].startswith(f"{names[1]}: not a readable image")
    assert rows[9].startswith("heatmaps: ") and len(rows) == 10
    out, lines = infer(f"--images {names[0]} --threshold 1")
    assert "none reaches a score of 1; the highest is " in out and lines[0]["predicted"] == []
    assert pictures(infer.folder)[0]["tags"] == []


def literal(folder):
    """Of each test image: its path, and {label: verdict} at 0.5 by the rule as written."""
    found = {}
    names = {one["path"]: one["name"] for one in pictures(folder)}
    for line in open("data/colors/test.txt"):
        path, present = line.rstrip("\n").split("\t")
        found[path] = {}
        scores = scores_of(folder, f"grids/{names[path]}.npz")
        for label, score in zip(LABELS, scores, strict=True):
            if label in present.split(","):
                found[path][label] = "correct" if score >= 0.5 else "missed"
            elif score >= 0.5:
                found[path][label] = "false alarm"
    return found


def shown(folder):
    return {
        one["path"]: {LABELS[tag[0]]: tag[2] for tag in one["tags"]} for one in pictures(folder)
    }


def test_filters_on_the_test_set(infer):
    folder = infer.folder
    out, _ = infer()
    expected = literal(folder)
    assert shown(folder) == expected
    kinds = [kind for tags in expected.values() for kind in tags.values()]
    assert kinds.count("correct") and len(kinds) > kinds.count("correct")
    said = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("correct", "missed", "false alarm"))
    assert f"9 of 9 images; labels: {said}" in out

    infer("--labels", "blue, red")
    of_two = {
        path: {label: kind for label, kind in tags.items() if label != "green"}
        for path, tags in expected.items()
    }
    assert shown(folder) == {path: tags for path, tags in of_two.items() if tags}
    errors = {path: tags for path, tags in expected.items() if set(tags.values()) - {"correct"}}
    assert 2 < len(errors)
    out, lines = infer("--only-errors --limit 2")
    assert list(shown(folder)) == list(errors)[:2] == [line["path"] for line in lines]
    assert len(list((folder / "images").iterdir())) == 2 and "2 of 9 images; labels: " in out
    infer("--limit 3")
    assert list(shown(folder)) == list(expected)[:3]


def test_pictures_of_any_form(infer, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    random = np.random.default_rng(0)
    Image.new("RGB", (1, 1), (9, 9, 9)).save(folder / "dot.png")
    Image.new("RGB", (20000, 12), (9, 99, 9)).save(folder / "wide.jpg")
    Image.new("P", (30, 300)).save(folder / "palette.gif")
    Image.new("RGBA", (30, 30), (1, 2, 3, 4)).save(folder / "clear.webp")
    Image.fromarray(random.integers(0, 65535, (9, 9), dtype=np.uint16)).save(folder / "deep.png")
    (folder / "no picture.txt").write_text("text")
    out, lines = infer("--images odd --threshold 0")
    assert len(lines) == 5 and "not readable" not in out
    for line in lines:
        assert len(line["predicted"]) == 3
    overlays = sorted((infer.folder / "overlays").rglob("*.jpg"))
    assert len(overlays) == 15
    assert Image.open(overlays[-1]).size[0] == 640  # the wide one
    infer("--images odd --no-overlays")
    assert not (infer.folder / "overlays").exists()


def trained_before_exif(folder):
    """The experiment as of before `--exif`: nothing in it says how images are read."""
    file = folder / "checkpoints" / "best_ema_model.pth"
    content = torch.load(file, weights_only=True)
    assert content["config"].pop("exif") == "upright"
    torch.save(content, file)
    lines = (folder / "config.yaml").read_text().splitlines(keepends=True)
    (folder / "config.yaml").write_text("".join(one for one in lines if "exif" not in one))


def turned_pair(folder):
    """The same pixels as plain.png, and as turned.png with a camera's note: a quarter."""
    image = Image.open("data/colors/images/test0.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "plain.png")
    image.save(folder / "turned.png", exif=exif)
    return image.transpose(Image.Transpose.ROTATE_270)


def grids_of(folder, one):
    with np.load(folder / "grids" / f"{one['name']}.npz") as stored:
        return stored["evidence"], stored["orientation"]


@pytest.mark.parametrize("exif", ["stored", "upright"])
def test_a_page_of_upright_pictures(infer, tmp_path, exif):
    """A camera's note gives a model of upright pictures what one that was saved upright gives; one
    from before `--exif` reads the stored pixels, of which the upright picture is shown."""
    if exif == "stored":
        trained_before_exif(infer.folder.parent)
    turned_pair(tmp_path).save(tmp_path / "upright.png")
    infer("--images upright.png turned.png plain.png --threshold 0")
    upright, turned, plain = pictures(infer.folder)
    twin, other = (upright, plain) if exif == "upright" else (plain, upright)
    (grid, orientation), (same_grid, _) = (grids_of(infer.folder, one) for one in (turned, twin))
    assert orientation == (1 if exif == "upright" else 6)
    np.testing.assert_allclose(grid, same_grid, rtol=1e-5)
    assert upright["size"] == turned["size"] == plain["size"][::-1] == [213, 256]
    for one, same in zip(turned["tags"], twin["tags"], strict=True):
        assert (one[0], one[2]) == (same[0], same[2]) and one[1] == pytest.approx(same[1], abs=1e-6)
        assert (one[3:] == same[3:]) is (exif == "upright")
    assert turned["tags"] != other["tags"]


def test_other_files_of_a_folder_are_counted(infer, tmp_path):
    """By ending, most first, without hidden ones; a file in two given folders counts once."""
    inside = tmp_path / "phone" / "inside"
    inside.mkdir(parents=True)
    (tmp_path / "phone" / ".cache").mkdir()
    shutil.copy("data/colors/images/test0.png", inside / "a.png")
    for name in ("1.txt", "2.TXT", "3.txt", "clip.mov", "notes", ".hidden", "../.cache/b.txt"):
        (inside / name).touch()
    out, _ = infer("--images phone phone/inside")
    assert "passed over: 3 .txt, 1 without ending, 1 .mov\n1 of 1 images\n" in out
    image = "phone/inside/a.png"
    assert find_images([image, "phone"])[0] == [image]  # named twice
    assert "passed over" not in infer(f"--images {image}")[0]
    (inside / "a.png").unlink()
    assert "3 .txt, 1 without ending" in infer.refused("--images phone", "--images phone")


def test_heic_without_its_package_is_counted_and_named(infer, tmp_path, no_heif):
    (tmp_path / "phone").mkdir()
    shutil.copy("data/colors/images/test0.png", tmp_path / "phone" / "z.png")
    for name in "abc":
        content = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf"
        (tmp_path / "phone" / f"{name}.HEIC").write_bytes(content)
    out, lines = infer("--images phone")
    assert "unreadable, left out: 3\n  phone/a.HEIC: not a readable image: HEIC" in out
    assert "pip install pillow-heif" in out and out.count("1 of 4 images") == 1
    assert len(lines) == 4


def test_the_map_that_is_asked_for_comes_first(infer):
    found = []
    for flags in ("", "--map evidence", "--map attention", "--map both"):
        infer(f"--limit 2 --overlays --threshold 0 {flags}")
        text = (infer.folder / "data.js").read_text()
        (overlay, *_) = sorted((infer.folder / "overlays").rglob("*.jpg"))
        found.append((re.findall(r'\["(evidence|attention)", "', text), overlay.read_bytes()))
    assert found[0] == found[1] and found[0][0] == ["evidence", "attention"]
    assert found[2][0] == ["attention", "evidence"] and found[2][1] != found[0][1]
    assert found[3][0] == ["evidence", "attention"]
    one, two = (Image.open(io.BytesIO(found[place][1])) for place in (0, 3))
    assert two.width == 2 * one.width + GAP and two.height == one.height


def test_tags_alone_are_those_of_the_page(infer):
    """They replace a page of other images, and its pictures."""
    flags = "--images data/colors/images --threshold 0.1 --top 2"
    out, lines = infer(flags)
    folder = infer.folder
    assert (folder / "index.html").exists() and (folder / "overlays").exists()
    alone, tags = infer(f"{flags} --tags-only")
    assert [file.name for file in folder.iterdir()] == ["predictions.jsonl"]
    assert len(tags) == len(lines) > 1
    assert tags == [{key: line[key] for key in line if key != "heatmaps"} for line in lines]
    assert alone.splitlines()[:-1] == out.splitlines()[:-1]
    assert alone.splitlines()[-1] == "predictions: experiments/toy/visualization/predictions.jsonl"


def test_tags_for_other_programs(infer):
    """Standard output has nothing but the tags of the images, as in predictions.jsonl."""
    flags = "--images data/colors/images --threshold 0.1 --top 2"
    _, lines = infer(flags)
    before = {file.name: file.read_bytes() for file in infer.folder.glob("*.*")}
    expected = [
        (line["path"], one["label"], one["score"]) for line in lines for one in line["predicted"]
    ]
    out, _ = infer(f"{flags} --format json")
    found = [json.loads(line) for line in out.splitlines()]
    assert expected and expected == [
        (one["path"], *pair)
        for one in found
        for pair in zip(one["labels"], one["scores"], strict=True)
    ]
    out, _ = infer(f"{flags} --format csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    found = [(row["path"], row["label"], float(row["score"])) for row in rows if row["label"]]
    assert found == expected
    assert {row["path"] for row in rows} == {line["path"] for line in lines}
    assert {file.name: file.read_bytes() for file in infer.folder.glob("*.*")} == before


def test_boxes_are_in_pixels_of_the_upright_picture(infer, tmp_path):
    """Of 120 x 100 pixels, stored turned or not; a label's box lies where its evidence is."""
    turned_pair(tmp_path).save(tmp_path / "upright.png")
    _, lines = infer("--images upright.png turned.png --threshold 0 --boxes")
    upright, turned = ({one["label"]: one["box"] for one in line["predicted"]} for line in lines)
    assert upright == turned and set(upright) == set(LABELS)
    assert [line["map"] for line in lines] == ["evidence"] * 2
    width, height = Image.open("upright.png").size
    for one, line in zip(pictures(infer.folder), lines, strict=True):
        grids, _ = grids_of(infer.folder, one)
        for item in line["predicted"]:
            grid = grids[LABELS.index(item["label"])]
            expected = box_around(grid) * np.array([width, height] * 2)
            np.testing.assert_allclose(item["box"], expected, atol=0.1)
    flags = "--images upright.png --threshold 0"
    assert infer(f"{flags} --boxes --map attention")[1][0]["map"] == "attention"
    (line,) = infer(flags)[1]
    assert "box" not in line["predicted"][0] and "map" not in line


def copy_images(*numbers):
    Path("album").mkdir(exist_ok=True)
    for number in numbers:
        shutil.copy(f"data/colors/images/test{number}.png", f"album/{number}.png")


def test_images_that_are_done_are_skipped(infer):
    """New and changed images alone are tagged; predictions.jsonl has all of them, in order."""
    flags = "--images album --tags-only --threshold 0"
    copy_images(0, 1, 3)
    open("album/bad.png", "w").close()
    out, first = infer(f"{flags} --skip-done")
    assert "skipped: 0 images" in out and len(first) == 4
    copy_images(2)
    shutil.copy("data/colors/images/test4.png", "album/3.png")
    out, lines = infer(f"{flags} --skip-done --limit 1 --batch-size 2")
    assert "skipped: 2 images" in out and "1 of 3 images" in out
    assert [line["path"] for line in lines] == [f"album/{i}.png" for i in (0, 1, 2)]
    out, lines = infer(f"{flags} --skip-done")
    tagged = [row for row in out.splitlines() if row.startswith("album")]
    assert tagged == ["album/3.png"] and lines[:2] == first[:2] and lines[3] != first[2]
    assert lines[4] == first[3] and lines[4]["path"] == "album/bad.png" and "error" in lines[4]
    assert infer(flags)[1] == lines  # as one run alone gives them


def test_another_model_or_format_tags_again(infer):
    flags = "--images album --skip-done --format"
    copy_images(0, 1)
    for kind in ("csv", "json"):
        first, copied = (infer(f"{flags} {kind}")[0] for _ in range(2))
        assert len(first.splitlines()) >= 2 and copied == ""
    copy_images(2)
    assert not infer(f"{flags} csv")[0].startswith("path,")  # to go on in the same file
    checkpoint = Path("experiments/toy/checkpoints/best_ema_model.pth")
    saved = torch.load(checkpoint)
    saved["model"]["head.patch_classifier.3.bias"] += 1
    torch.save(saved, checkpoint)
    again = infer(f"{flags} csv")[0]
    assert again.count("\n") >= 3 and "path,label" not in again


def test_what_no_reader_got_is_not_done(infer, monkeypatch):
    """As with `| head`; and the file of --limit images goes past those that are unreadable."""
    flags = "--images album --skip-done --format json"
    copy_images(1, 2)
    open("album/0.png", "w").close()
    closed = iter([False, True])
    with monkeypatch.context() as patch:
        patch.setattr("lib.inference.infer.stdout_is_closed", lambda: next(closed))
        line = infer.refused("standard output", f"{flags} --batch-size 1")
    assert "album/2.png" in line
    out = infer(f"{flags} --limit 1")[0]
    assert [json.loads(line)["path"] for line in out.splitlines()] == ["album/2.png"]
    assert infer(f"{flags} --limit 1")[0] == ""


def fail_at(name):
    def write(path, text):
        if Path(path) == name:
            raise UserError(f"{path}: cannot be written")
        write_text(path, text)

    return write


def test_a_run_that_failed_is_continued(infer, monkeypatch):
    flags = "--images album --skip-done --format xmp --threshold 0"
    copy_images(0, 1, 2, 3)
    sidecar, records = Path("album/3.png.xmp"), Path("experiments/toy/done.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr("lib.inference.sidecars.write_text", fail_at(sidecar))
        infer.refused(sidecar, flags)
    assert len(records.read_text().splitlines()) == 3 and Path("album/2.png.xmp").exists()
    infer(flags)
    assert sidecar.exists() and len(records.read_text().splitlines()) == 4
    with open(records, "a") as file:
        file.write('{"path": 3}\n')
    infer.refused(f"{records}:5", flags)
