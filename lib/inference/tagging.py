"""Tags the images of a split and draws where the model looked, batch by batch.

Shapes: C labels, H x W patches.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from lib.data.bad_images import BadImages
from lib.data.split import Split
from lib.experiment.predict import Prediction
from lib.inference.gallery import Gallery
from lib.inference.tags import Selection, TaggedImage
from lib.predictor import Predictor
from lib.runtime.cores import available_cores


def tag_images(
    predictor: Predictor,
    split: Split,
    selection: Selection,
    bad_images: BadImages,
    gallery: Gallery | None = None,
    limit: int | None = None,
) -> Iterator[list[TaggedImage]]:
    """The wanted images of `split` in its order, those of all ranks together on every rank.

    Each rank draws its own into the `gallery`. Unreadable images are left out and added to
    `bad_images`. Ends after `limit` images.
    """
    world, left = predictor.world, len(split) if limit is None else limit
    with ThreadPoolExecutor(available_cores()) as pool:
        for prediction in _in_steps(predictor, split, bad_images):
            wanted = dict(_wanted(prediction, split, selection)) if prediction else {}
            first = sum(world.gather([image.row for image in wanted.values()]), [])[:left]
            kept = {place: image for place, image in wanted.items() if image.row in first}
            with world.raise_on_all_ranks():
                drawn = list(kept.values())
                if gallery and prediction:
                    heatmaps = [prediction.outputs[0].heatmaps(name) for name in gallery.maps]
                    grids = torch.stack(heatmaps, dim=1).unflatten(-1, predictor.grid).cpu().numpy()
                    scores, places = prediction.scores[0], list(kept)
                    drawn = list(pool.map(gallery.draw, drawn, scores[places], grids[places]))
            yield sum(world.gather(drawn), [])
            left -= len(first)
            if not left:
                return


def _in_steps(
    predictor: Predictor, split: Split, bad_images: BadImages
) -> Iterator[Prediction | None]:
    """This rank's predictions, in as many steps as the other ranks have; None for a batch none of
    whose images could be read."""
    stream = predictor.stream(split, bad_images)
    images_per_step = predictor.batch_size * predictor.world.world_size
    prediction = next(stream, None)
    for step in range(-(-len(split) // images_per_step)):
        if prediction is None or prediction.rows[0] // images_per_step > step:
            yield None
        else:
            yield prediction
            prediction = next(stream, None)


def _wanted(
    prediction: Prediction, split: Split, selection: Selection
) -> Iterator[tuple[int, TaggedImage]]:
    """The images of a batch that are wanted, by their places in it."""
    for place, row in enumerate(prediction.rows.tolist()):
        scores = prediction.scores[0, place]
        tags = selection.tags(scores, split.targets_of(row), split.ignore_of(row))
        if selection.wants(tags):
            best = int(scores.argmax())
            highest = selection.labels[best], float(scores[best])
            yield place, TaggedImage(row, split.paths[row], tags, highest, {})
