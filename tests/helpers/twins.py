"""Slow, literal twins of the fast paths: the formulas as the design writes them, in float64."""

import numpy as np

from lib.scoring.boxes import box_around


def random_case(seed, rows=23, columns=6):
    """Scores (N, C) with ties, targets of which the first label has none, and what is ignored."""
    random = np.random.default_rng(seed)
    scores = random.random((rows, columns)).round(1)
    targets = (random.random((rows, columns)) < 0.3).astype(np.uint8)
    targets[:, 0] = 0
    return scores, targets, random.random((rows, columns)) < 0.2


def literal_position(height: int, width: int, size: int) -> np.ndarray:
    """The 2-D sine code (H * W, D), one number at a time."""
    per_axis = size // 2
    code = np.zeros((height * width, size))
    for row in range(height):
        for column in range(width):
            for half, (index, length) in enumerate(((row, height), (column, width))):
                position = (index + 1) / (length + 1e-6) * 2 * np.pi
                for channel in range(per_axis):
                    angle = position / 10000 ** (2 * (channel // 2) / per_axis)
                    value = np.sin(angle) if channel % 2 == 0 else np.cos(angle)
                    code[row * width + column, half * per_axis + channel] = value
    return code


def literal_asl(logits, targets, ignore, gamma_pos, gamma_neg, clip) -> tuple[float, int]:
    """Asymmetric loss entry by entry: 1000 times the sum, and the number of entries."""
    total, count = 0.0, 0
    for z, y, skip in zip(logits.flat, targets.flat, ignore.flat, strict=True):
        if skip:
            continue
        p = 1 / (1 + np.exp(-z))
        q = min(1 - p + clip, 1)
        likelihood = y * np.log(max(p, 1e-5)) + (1 - y) * np.log(max(q, 1e-5))
        weight = (1 - p * y - q * (1 - y)) ** (gamma_pos * y + gamma_neg * (1 - y))
        total, count = total - 1000 * weight * likelihood, count + 1
    return total, count


def literal_average_precision(scores, targets, ignore) -> float:
    """One label's AP: area under the interpolated precision-recall curve, step by step."""
    kept = [i for i in range(len(scores)) if not ignore[i]]
    order = sorted(kept, key=lambda i: (-scores[i], i))
    positives = sum(targets[i] for i in kept)
    if positives == 0:
        return 0.0
    curve, hits = [], 0
    for rank, i in enumerate(order, 1):
        hits += targets[i]
        curve.append((hits / positives, hits / rank))
    area, recall = 0.0, 0.0
    for position, (reached, _) in enumerate(curve):
        best = max(precision for _, precision in curve[position:])
        area += (reached - recall) * best
        recall = reached
    return area


def literal_resampled_average_precision(scores, targets, ignore, counts) -> np.ndarray:
    """AP (C, R) of the images written out as often as `counts` (N, R) says; nan if undefined."""
    results = np.full((scores.shape[1], counts.shape[1]), np.nan)
    for resample in range(counts.shape[1]):
        rows = [i for i in range(len(scores)) for _ in range(counts[i, resample])]
        for c in range(scores.shape[1]):
            if (targets[rows, c] * (ignore[rows, c] == 0)).sum():
                results[c, resample] = literal_average_precision(
                    scores[rows, c], targets[rows, c], ignore[rows, c]
                )
    return results


def literal_expected_calibration_error(scores, targets, ignore, bins) -> float:
    """ECE of the entries of arrays of any equal shape, bin by bin."""
    entries = [
        (float(s), int(y)) for s, y, i in zip(scores.flat, targets.flat, ignore.flat, strict=True)
        if not i
    ]  # fmt: skip
    error = 0.0
    for k in range(bins):
        low, high, last = k / bins, (k + 1) / bins, k == bins - 1
        inside = [(s, y) for s, y in entries if low <= s < high or (last and s == 1)]
        if inside:
            confidence = sum(s for s, _ in inside) / len(inside)
            share = sum(y for _, y in inside) / len(inside)
            error += len(inside) / len(entries) * abs(confidence - share)
    return error


def literal_f1(scores, targets, ignore, threshold, k=None) -> tuple[float, ...]:
    """CP, CR, CF1, OP, OR, OF1 by counting; `k` keeps each sample's highest scores alone."""
    rows, columns = scores.shape
    predicted = np.zeros(scores.shape, bool)
    for i in range(rows):
        chosen = sorted(range(columns), key=lambda c: (-scores[i, c], c))[:k]
        for c in chosen:
            predicted[i, c] = scores[i, c] >= threshold and not ignore[i, c]
    real = (targets == 1) & ~ignore
    precisions, recalls = [], []
    for c in range(columns):
        hits = int((predicted[:, c] & real[:, c]).sum())
        made, there = int(predicted[:, c].sum()), int(real[:, c].sum())
        precisions.append(hits / made if made else 1.0)
        recalls.append(hits / there if there else 1.0)
    hits, made, there = (predicted & real).sum(), predicted.sum(), real.sum()
    cp, cr = float(np.mean(precisions)), float(np.mean(recalls))
    op, orec = (hits / made if made else 0.0), (hits / there if there else 0.0)
    return cp, cr, harmonic(cp, cr), float(op), float(orec), harmonic(op, orec)


def harmonic(a: float, b: float) -> float:
    return float(2 * a * b / (a + b)) if a + b else 0.0


def literal_threshold(scores, targets, ignore, name, level) -> float | None:
    """One label's best threshold by trying every score, from the highest down."""
    kept = [i for i in range(len(scores)) if not ignore[i]]
    positives = sum(targets[i] for i in kept)
    best: tuple[tuple, float] | None = None
    rank: tuple | None
    for threshold in sorted({scores[i] for i in kept}, reverse=True):
        predicted = [i for i in kept if scores[i] >= threshold]
        hits = sum(targets[i] for i in predicted)
        if not positives:
            continue
        precision, recall = hits / len(predicted), hits / positives
        if name == "f1":
            rank = (2 * hits / (len(predicted) + positives),)
        elif name == "precision":
            rank = (recall,) if precision >= level else None
        else:
            rank = (precision, recall) if recall >= level else None
        if rank is not None and (best is None or rank > best[0]):
            best = rank, threshold
    return best and best[1]


def literal_energy(heatmap, boxes) -> float:
    """Share of the mass of (H, W) inside boxes (K, 4), in shares of the square: each patch by the
    area of its cells, between all edges of boxes, whose middle lies in a box."""
    height, width = heatmap.shape
    total = inside = 0.0
    for row in range(height):
        for column in range(width):
            total += heatmap[row, column]
            left, top = column / width, row / height
            right, bottom = (column + 1) / width, (row + 1) / height
            xs = sorted({left, right, *(x for box in boxes for x in box[::2] if left < x < right)})
            ys = sorted({top, bottom, *(y for box in boxes for y in box[1::2] if top < y < bottom)})
            for x0, x1 in zip(xs, xs[1:], strict=False):
                for y0, y1 in zip(ys, ys[1:], strict=False):
                    x, y = (x0 + x1) / 2, (y0 + y1) / 2
                    if any(b[0] < x < b[2] and b[1] < y < b[3] for b in boxes):
                        area = (x1 - x0) * (y1 - y0) * width * height
                        inside += heatmap[row, column] * area
    return inside / total if total > 0 else 0.0


def literal_localization(split, labels, boxes, heatmaps, grid) -> dict[str, float]:
    """All measures of heatmaps (N, C, H * W), pair by pair."""
    from PIL import Image

    hits, energies, overlaps, several, wins, same = [], [], [], [], [], []
    for row, path in enumerate(split.paths):
        size = np.array([*Image.open(path).size] * 2)
        own = {}  # label's column -> its boxes
        for column, label in enumerate(labels):
            found = [np.array(item["box"]) / size for item in boxes[path] if item["label"] == label]
            if found and column in split.labels_of(row):
                own[column] = found
        for a, places in own.items():
            heatmap = heatmaps[row, a].reshape(grid).astype(float)
            y, x = np.unravel_index(heatmap.argmax(), grid)
            y, x = (y + 0.5) / grid[0], (x + 0.5) / grid[1]
            h, w = 0.5 / grid[0], 0.5 / grid[1]
            hits.append(
                any(b[0] - w <= x <= b[2] + w and b[1] - h <= y <= b[3] + h for b in places)
            )
            energies.append(literal_energy(heatmap, places))
            overlaps.append(max(literal_overlap(box_around(heatmap), box) for box in places))
            several.append(len(own) > 1)
            for b in own:
                if b != a:
                    other = heatmaps[row, b].reshape(grid).astype(float)
                    wins.append(literal_energy(heatmap, places) > literal_energy(other, places))
                    same.append(heatmap.argmax() == other.argmax())
    several, correct = np.array(several), np.array(overlaps) >= 0.5
    names = ("pointing_accuracy", "energy_in_box", "box_iou", "corloc")
    found = dict(zip(names, map(np.array, (hits, energies, overlaps, correct)), strict=True))
    return {
        **{name: values.mean() for name, values in found.items()},
        **{f"{name}_several_labels": values[several].mean() for name, values in found.items()},
        "discrimination": np.mean(wins),
        "same_peak": np.mean(same),
    }


def literal_overlap(one, other) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return common / (sum(areas) - common)
