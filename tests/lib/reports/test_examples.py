"""The images of a report's worst mistakes."""

import base64
import io

import numpy as np
from PIL import Image

from lib.reports.examples import worst_mistakes
from lib.reports.results import Scores
from lib.scoring import mistakes


def test_images_are_shown_upright(tmp_path):
    note = Image.Exif()
    note[0x0112] = 6
    path = str(tmp_path / "a.jpg")
    Image.new("RGB", (60, 20)).save(path, exif=note)
    scores, targets = np.array([[0.9]], np.float32), np.array([[0]], np.uint8)
    stored = Scores(scores, targets, np.zeros((1, 1), bool), [path], ["dog"])
    verdicts = mistakes.verdicts(*stored.arrays, np.array([0.5], np.float32))
    false_alarms, missed = worst_mistakes(stored, verdicts, limit=3)
    (example,) = false_alarms["shown"]
    content = base64.b64decode(example["thumbnail"].removeprefix("data:image/jpeg;base64,"))
    image = Image.open(io.BytesIO(content))
    assert image.size == (20, 60) and not image.getexif()
    assert (example["label"], missed["shown"]) == ("dog", [])
