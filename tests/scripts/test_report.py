"""report.html: what stands in it, for any labels and scores, and that it works in a browser."""

import base64
import io
import json
import re
from html import unescape
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from lib.reports.results import open_evaluated
from lib.scoring.bootstrap import (
    interval,
    resample_counts,
    resampled_average_precision,
    resampled_mean,
)
from lib.scoring.heatmap_examples import HeatmapExample, HeatmapExamples, LabelHeatmaps
from lib.scoring.metrics import f1_scores, summarize
from tests.helpers.browser import browser, opened_page  # noqa: F401 (a fixture)
from tests.helpers.commands import error_where, run_here
from tests.helpers.evaluated import make_evaluated
from tests.lib.scoring.test_tuning import make_tuning

HOSTILE = "<script>document.title = 'broken'</script>"


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Writes the report of `exp1` in a fresh folder; gives the result and the page."""
    monkeypatch.chdir(tmp_path)

    def report(*flags):
        flags = ("--exp-dir", "exp1", "--resamples", "20", *flags)
        result = run_here(monkeypatch, capsys, "scripts/report.py", *flags)
        page = Path("exp1/report.html")
        return result, page.read_text() if page.exists() else None

    return report


def make_pictures(folder: Path, rows) -> None:
    (folder / "data" / "images").mkdir(parents=True)
    for row in rows:
        Image.new("RGB", (40, 20), (row * 20, 90, 90)).save(folder / f"data/images/{row}.png")


def change(**arrays):
    with np.load("exp1/scores.npz") as content:
        np.savez("exp1/scores.npz", **dict(content) | arrays)


def details(page):
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1]
    )


def test_one_file_with_the_numbers_of_the_evaluation(here, tmp_path):
    folder = make_evaluated(tmp_path / "exp1", ignored=0.1, lamda=0.5)
    make_pictures(tmp_path, range(12))
    result, page = here()
    assert result.code == 0 and "report: exp1/report.html" in result.out, result.err
    urls = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(url.startswith(("data:", "#")) for url in urls)
    assert "http" not in re.sub(r"http://www.w3.org/\S+", "", page)
    stored = open_evaluated(folder).stored
    summary = summarize(*stored.arrays, threshold=0.5, topk=3)
    assert f"mAP {summary['mAP']:.3f}" in page
    for name in ("threshold_cf1", "threshold_of1", "topk_cf1", "topk_of1"):
        assert f'<td class="number">{summary[name]:.3f}</td>' in page
    assert re.search(r"pointing accuracy</td>\s*<td class=\"number\">0.750", page)
    draws = resampled_average_precision(*stored.arrays, resample_counts(12, 20, 0))
    low, high = interval(resampled_mean(draws), summary["mAP"])
    assert f"{low:.3f} to {high:.3f}" in page
    assert "entries ignored" in page and page.count("data:image/jpeg;base64,") > 4
    per_label = json.loads((folder / "results.json").read_text())["per_label"]
    for one in details(page)[1:]:
        assert one["facts"].startswith(f"AP {per_label[one['name']]:.3f} (")
    assert here()[1] == page  # seeded


def test_ignored_entries_take_no_part(here, tmp_path):
    make_evaluated(tmp_path / "exp1", ignored=0.3)
    _, page = here()
    stored = open_evaluated(Path("exp1")).stored
    change(
        targets=np.where(stored.ignore, 1 - stored.targets, stored.targets),
        scores=np.where(stored.ignore, 1 - stored.scores, stored.scores),
    )
    # but in the choice of the top k, which is made before
    again = here()[1]
    scores = r'(?s)<section id="scores">.*?</section>'
    assert re.sub(scores, "", again) == re.sub(scores, "", page)


def test_pictures_that_are_gone_make_room_and_are_counted(here, tmp_path):
    make_evaluated(tmp_path / "exp1", quality=0)
    make_pictures(tmp_path, range(6))
    Path("data/images/2.png").write_text("no picture")
    result, page = here("--examples", "50")
    assert len(re.findall(r"note: \d+ images", result.out)) == 2
    assert len(re.findall(r"\d+ images are gone", page)) == 2
    shown = set(re.findall(r'src="data:[^"]*" alt="data/images/(\d+).png"', page))
    assert shown and shown <= {"0", "1", "3", "4", "5"}
    assert here("--examples", "0")[1].count('src="data:') == 0


def write_heatmaps(folder, *paths):
    """The examples and results of two maps, of images with two labels."""
    maps = {"evidence": [[0.7, 0.3]], "attention": [[0.5, 0.5]]}
    labels = [LabelHeatmaps(label, [(0.0, 0.0, 0.5, 1.0)], maps) for label in ("red", HOSTILE)]
    discrimination = {"evidence": 0.75, "attention": 0.5}
    best, *worst = (HeatmapExample(path, discrimination, labels) for path in paths)
    examples = HeatmapExamples("upright", [best], worst)
    (folder / "heatmaps.json").write_bytes(msgspec.json.encode(examples))
    results = json.loads((folder / "results.json").read_text())
    measured = {"pointing_accuracy": 0.625, "discrimination": 0.8125}
    results["localization"] = {"evidence": measured, "even": measured}
    (folder / "results.json").write_text(json.dumps(results))


def test_where_it_looked(here, tmp_path):
    make_evaluated(tmp_path / "exp1")
    make_pictures(tmp_path, range(2))
    assert "Where it looked" not in here()[1]
    write_heatmaps(tmp_path / "exp1", *(f"data/images/{row}.png" for row in (0, 1, 2)))
    result, page = here()
    assert result.code == 0 and "Where it looked" in page and HOSTILE not in page
    assert "note: 1 images" in result.out
    section = page[page.index('id="where"') : page.index('id="worst"')]
    assert "evidence pointing accuracy" not in page
    assert all(text in section for text in ("0.625", "0.812", "evidence<br>0.75"))
    shown = re.findall(r"data:image/jpeg;base64,([^\"]+)", section)
    assert len(shown) == 2 * 2 * 2  # images, labels, maps
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown[0]))).convert("RGB"), int)
    assert pixels.shape == (20, 40, 3)
    assert pixels[2:18, 2:8].mean() > 20 + pixels[2:18, 30:38].mean()  # evidence is on the left
    edge = pixels[10, 20] - pixels[10, 30]  # the box ends in the middle, in blue and green
    assert edge[1] > 40 and edge[2] > 40


def test_labels_are_text(here, tmp_path):
    labels = (HOSTILE, r"a$\frac$b", "</script><b>&amp;'\"", "犬 🐕")
    make_evaluated(tmp_path / "exp1", labels=labels)
    result, page = here()
    assert result.code == 0, result.err
    assert HOSTILE not in page and "<b>&" not in page
    assert [one["name"] for one in details(page)[1:]] == list(labels)
    cells = [unescape(cell) for cell in re.findall(r'<td class="label">(.*?)</td>', page)]
    assert set(labels) <= set(cells)


@pytest.mark.parametrize("targets", [0, 1])
@pytest.mark.parametrize("ignore", [0, 1])
@pytest.mark.parametrize("scores", [0.0, 0.5, 1.0])
@pytest.mark.filterwarnings("error")
def test_any_scores_give_a_page(here, tmp_path, targets, ignore, scores):
    """All or no positives, all ignored, all scores alike, one label, one image."""
    shape = (1, 1) if scores == 0.5 else (4, 2)
    make_evaluated(tmp_path / "exp1", labels=("a", "b")[: shape[1]], images=shape[0])
    change(
        scores=np.full(shape, scores, np.float32),
        targets=np.full(shape, targets, np.uint8),
        ignore=np.full(shape, bool(ignore)),
    )
    result, page = here()
    assert result.code == 0, result.err
    assert "nan" not in re.sub(r"(?s)<script>.*", "", page).lower()


def test_hundreds_of_labels_stay_small(here, tmp_path):
    labels = tuple(f"label {number}" for number in range(300))
    make_evaluated(tmp_path / "exp1", labels=labels, images=60)
    result, page = here()
    assert result.code == 0 and len(page) < 2_000_000
    assert page.count('<td class="label">') >= 300 and page.count('class="worst') == 6


@pytest.mark.parametrize(
    ("flags", "where"),
    [
        *(("--exp-dir gone", "gone"), ("--resamples 19", "--resamples")),
        *(("--threshold 1.5", "--threshold"), ("--threshold tuned", "--threshold tuned")),
    ],
)
def test_bad_input(here, tmp_path, flags, where):
    make_evaluated(tmp_path / "exp1")
    result, page = here(*flags.split())
    assert error_where(result) == where and page is None


def test_in_a_browser(here, tmp_path, browser):  # noqa: F811
    """Choosing a label exchanges the charts, heads sort, nothing is asked for or goes wrong."""
    make_evaluated(tmp_path / "exp1", labels=("zebra", HOSTILE, "ant"), images=40)
    make_pictures(tmp_path, range(3))
    _, page = here()
    shown = details(page)
    with opened_page(browser, tmp_path / "exp1" / "report.html", 400, 800) as opened:
        for number in (2, 0):
            opened.select_option("#label", index=number)
            assert opened.locator("#facts").inner_text() == shown[number]["facts"]
            for key, path in shown[number]["paths"].items():
                assert opened.locator(f"[data-key={key}]").get_attribute("d") == path
            alt = opened.locator("#details .chart").first.get_attribute("aria-label")
            assert alt.endswith(f"{shown[number]['name']}: {shown[number]['facts']}")
        assert opened.locator("#label option").all_inner_texts()[2] == HOSTILE

        def column(number):
            return opened.locator(f"#table tbody td:nth-child({number})").all_inner_texts()

        assert column(3) == sorted(column(3))
        for order in ([HOSTILE, "ant", "zebra"], ["zebra", "ant", HOSTILE]):
            opened.get_by_role("button", name="label").click()
            assert column(1) == order
        opened.get_by_role("button", name="positives").focus()
        opened.keyboard.press("Enter")
        assert column(2) == sorted(column(2), key=int)
        assert opened.locator("th[aria-sort]").all_inner_texts() == ["positives"]
        assert opened.title() == "Report on exp1"
        assert opened.evaluate("document.documentElement.scrollWidth") == 400


def test_tuned_thresholds_stand_beside_the_fixed_one(here, tmp_path):
    folder = make_evaluated(tmp_path / "exp1")
    checkpoint = folder / "checkpoints" / "best_ema_model.pth"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"weights")
    results = json.loads((folder / "results.json").read_text())
    results |= {"tuned_cf1": 0.5, "temperature": 0.7, "ece": 0.3, "ece_calibrated": 0.2}
    (folder / "results.json").write_text(json.dumps(results))
    learned = ("temperature", "calibration error, pooled, with the temperature")
    _, fixed = here("--threshold", "0.5")
    assert not any(f"<td>{name}</td>" in fixed for name in (*learned, "tuned cf1", "ece"))
    assert "tuned thresholds" not in fixed
    tuning = make_tuning({"red": 0.2, "green": 0.5, "blue": 0.9}, "f1")
    (folder / "thresholds.json").write_text(json.dumps(tuning.to_dict(checkpoint)))
    result, page = here()
    assert result.code == 0 and "from tuned thresholds (f1)" in page
    arrays = open_evaluated(folder).stored.arrays
    for threshold in (np.array([0.2, 0.5, 0.9], np.float32), 0.5):
        assert f"{f1_scores(*arrays, threshold=threshold).cf1:.3f}" in page
    cuts = [one["paths"]["cutoff"] for one in details(page)]
    assert cuts[0] == "" and len(set(cuts[1:])) == 3
    assert all(f"<td>{name}</td>" in page for name in learned) and "<td>ece</td>" not in page
    again = here("--threshold", "0.5")[1]
    for name in learned:
        again, count = re.subn(rf"<tr><td>{name}</td><td[^>]*>[0-9.]+</td></tr>", "", again)
        assert count == 1
    assert again.split() == fixed.split()
    checkpoint.write_bytes(b"other weights")
    assert error_where(here()[0]) == "exp1/thresholds.json"
