"""The stream of predictions, and how its scores are collected."""

import numpy as np
import pytest
import torch
from PIL import Image

from lib.data.bad_images import BadImages
from lib.data.dataset import ImageDataset
from lib.data.loader import EvaluationLoader
from lib.data.split import Split
from lib.experiment.network import Normalizer
from lib.experiment.predict import collect_scores, predict
from lib.runtime.world import World
from tests.helpers.refusals import refused
from tests.helpers.small_model import SmallModel

CPU = torch.device("cpu")


@pytest.fixture
def loader(tmp_path):
    random = np.random.default_rng(0)
    paths = []
    for index in range(5):
        paths.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(paths[-1])
    split = Split.from_dense("test", paths, np.zeros((5, 2), np.uint8), np.zeros((5, 2), bool))
    return EvaluationLoader(
        ImageDataset(split, 4, "upright"),
        batch_size=2,
        workers=0,
        world=World(CPU),
        bad_images=BadImages(2),
    )


def test_scores_are_collected_by_row(loader):
    """Of several models, from one pass; whatever order the batches come in."""
    models = [SmallModel(), SmallModel()]
    normalizer = Normalizer((0, 0, 0), (1, 1, 1), CPU)
    stream = list(predict(models, loader, normalizer, CPU, amp=False))
    assert [prediction.rows.tolist() for prediction in stream] == [[0, 1], [2, 3], [4]]
    assert [output.attention.shape for output in stream[0].outputs] == [(2, 2, 4)] * 2
    scores, read = collect_scores(iter(stream[::-1]), (2, 5, 2))
    assert read.tolist() == [1] * 5
    for batch, prediction in zip(loader, stream, strict=True):
        for which, model in enumerate(models):
            expected = model(batch.inputs.float() / 255).logits.sigmoid().detach()
            np.testing.assert_allclose(scores[which, prediction.rows], expected, rtol=1e-6)


def test_unreadable_images_have_no_rows(loader):
    """Row 1 shares its batch with a readable one; row 4 has a batch of its own."""
    paths = loader.loader.loader.dataset.split.paths
    for row in (1, 4):
        with open(paths[row], "wb") as file:
            file.write(b"no image")
    normalizer = Normalizer((0, 0, 0), (1, 1, 1), CPU)
    stream = predict([SmallModel()], loader, normalizer, CPU, amp=False)
    assert [prediction.rows.tolist() for prediction in stream] == [[0], [2, 3]]
    assert list(loader.bad_images.reasons.values()) == [1, 4]
    loader.bad_images = BadImages()
    with refused(paths[1]):
        list(predict([SmallModel()], loader, normalizer, CPU, amp=False))


def test_predictions_are_made_in_full_float32(loader):
    """PyTorch's default lets CUDA's convolutions round to TF32; training keeps it."""
    products = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    seen = []

    class Watching(SmallModel):
        def forward(self, images):
            seen.extend(product.fp32_precision for product in products)
            return super().forward(images)

    normalizer = Normalizer((0, 0, 0), (1, 1, 1), CPU)
    list(predict([Watching()], loader, normalizer, CPU, False))
    assert seen and set(seen) == {"ieee"} and products[0].fp32_precision == "tf32"
