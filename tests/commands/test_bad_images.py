"""Images that cannot be read: skipped up to a number, in training, caches and scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.commands import RUN, TRAIN, error_where
from tests.helpers.damage import cut, text

SHORT = f"{TRAIN} --batch-size 4 --max-epochs 2"
EVALUATE = f"evaluate.py --workers 0 --exp-dir {RUN}"
SECOND = Path("experiments/mlic_colors/exp2")


def image(name: str) -> str:
    return f"data/colors/images/{name}.png"


def spoil(*names: str) -> None:
    """Make images unreadable, each in another way."""
    for number, name in enumerate(names):
        (cut(0.5), text(""), text("no picture"))[number % 3](Path(image(name)))


def test_they_are_skipped_up_to_a_number(home):
    spoil("train0", "train3", "test2")
    assert error_where(home.run(SHORT)) in map(image, ("train0", "train3"))
    assert "--max-bad-images 2" in home.refused(image("test2"), f"{SHORT} --max-bad-images 2")
    out = home(f"{SHORT} --max-bad-images 3").out
    log = Path("experiments/mlic_colors/exp4/train.log").read_text()
    for shown in (out, log):
        assert shown.count(f"skipped: {image('train3')}: ") == 1
        assert "skipped 3 images (--max-bad-images 3):\n  data/colors/images/" in shown
    assert log.splitlines()[-1].startswith("best EMA mAP")


def test_a_batch_of_none_that_can_be_read_is_no_step(home):
    spoil(*(f"train{number}" for number in range(5)))
    home(f"{SHORT} --max-bad-images 5 --batch-size 2 --save-every 1")
    state = torch.load(SECOND / "checkpoints" / "last.pth", weights_only=True)
    assert state["step"] == 2 and state["batch"] == 0 and len(state["bad_images"]) == 5


def test_a_resumed_run_counts_what_it_skipped(home):
    spoil("train0")
    home(f"{SHORT} --max-bad-images 1 --lr-scheduler StepLR")
    Image.new("RGB", (9, 9)).save(image("train0"))
    spoil("train1")
    resume = f"train.py --resume {SECOND} --max-epochs 3"
    home.refused(image("train1"), resume)
    assert "skipped 2 images" in home(f"{resume} --max-bad-images 2").out


@pytest.mark.parametrize("cache", ["--cache cache", "--freeze-backbone --cache-features cache"])
def test_a_cache_keeps_which_images_could_not_be_read(home, cache):
    spoil("train0", "test1")
    assert home.run(f"{SHORT} {cache}").code == 2
    for _ in range(2):
        assert "skipped 2 images" in home(f"{SHORT} {cache} --max-bad-images 2").out
    assert home.run(f"{SHORT} {cache}").code == 2


def test_scores_are_those_of_the_images_that_were_read(home):
    boxes = {"label": "red", "box": [0, 0, 48, 40], "difficult": False}
    names = [image(f"test{number}") for number in range(6)]
    Path("data/colors/boxes.json").write_text(json.dumps({name: [boxes] for name in names}))
    spoil("test1", "test4")
    home.refused(names[1], EVALUATE)
    assert "skipped 2 images" in home(f"{EVALUATE} --max-bad-images 2").out
    found = json.loads(Path(RUN, "results.json").read_text())
    assert found.pop("skipped") == [names[1], names[4]]
    with np.load(f"{RUN}/scores.npz") as scores:
        assert scores["ignore"].any(axis=1).tolist() == [False, True, False, False, True, False]
    listed = Path("data/colors/test.txt")
    lines = listed.read_text().splitlines(keepends=True)
    listed.write_text("".join(lines[row] for row in (0, 2, 3, 5)))
    home(EVALUATE)
    expected = json.loads(Path(RUN, "results.json").read_text())
    assert "evidence" in found["localization"] and flat(found) == pytest.approx(flat(expected))
    spoil(*(f"test{number}" for number in range(6)))
    home.refused("test.txt", f"{EVALUATE} --max-bad-images 4")


def flat(results: dict) -> dict:
    """Numbers and texts by all of their keys; lists as text."""
    found = {}
    for name, value in results.items():
        if isinstance(value, dict):
            found |= {f"{name}.{key}": part for key, part in flat(value).items()}
        else:
            found[name] = str(value) if isinstance(value, list) else value
    return found
