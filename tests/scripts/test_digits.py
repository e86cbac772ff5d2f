"""The digits data set: what its scenes are made of."""

import numpy as np

from scripts import digits


def test_train_and_test_scenes_are_made_from_different_scans(tmp_path, monkeypatch):
    used = []
    compose = digits.compose_scene

    def recording(random, scans, labels, size):
        assert 1 <= len(scans) <= 4
        used.append({scan.tobytes() for scan in scans})
        return compose(random, scans, labels, size)

    monkeypatch.setattr(digits, "compose_scene", recording)
    digits.write_digits(tmp_path / "digits", {"train": 400, "test": 400}, 32, seed=0)
    train, test = set().union(*used[:400]), set().union(*used[400:])
    assert len(train) > 300 and len(test) > 200 and not train & test


def test_objects_do_not_overlap_and_boxes_hold_the_ink():
    ink = np.zeros((8, 8))
    ink[2:6, 3:5] = 16
    scene, objects = digits.compose_scene(
        np.random.default_rng(3), np.stack([ink] * 4), np.arange(4), 128
    )
    pixels = np.asarray(scene).mean(-1)
    inside = np.zeros(pixels.shape, bool)
    for item in objects:
        x0, y0, x1, y1 = item["box"]
        assert not inside[y0:y1, x0:x1].any()
        inside[y0:y1, x0:x1] = True
    assert len(objects) == 4
    assert pixels[inside].mean() > 120 and pixels[~inside].mean() < 50
