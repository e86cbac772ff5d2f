"""The page of heatmaps in a real browser, where there is one; the colours of all pages."""

import contextlib
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from lib.common.html import TEMPLATES
from lib.inference.gallery import Gallery, ResultsWriter
from lib.inference.tags import Selection, TaggedImage
from lib.scoring.tuning import Cutoffs
from tests.helpers.browser import browser, opened_page  # noqa: F401

HOSTILE = "<script>document.title = 'broken'</script>"
LABELS = ["dog", "cat", HOSTILE]
MANY = 70  # more pictures than are laid out at once


def corner(size, orientation=1):
    """A black picture whose right half's lower half is white, stored with a camera's note."""
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), (size[0] * 3 // 4, size[1] // 2, *size))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return image, exif


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """Named pictures, then many of one cat each; of heatmaps of 2 x 4 patches, evidence points at
    the white, attention at the corner that lies across."""
    folder = tmp_path_factory.mktemp("page")
    heat = np.full((2, 3, 2, 4), 0.05, np.float32)
    heat[0, :, 1, 3] = heat[1, :, 0, 0] = 0.65
    pictures = [  # name, size, orientation, scores, targets
        ("wide.jpg", (64, 32), 1, (0.9, 0.1, 0.1), (1, 0, 0)),
        ("turned.jpg", (64, 32), 6, (0.1, 0.1, 0.8), (0, 0, 0)),
        ("<b>.png", (30, 40), 1, (0.2, 0.7, 0.1), (1, 1, 0)),
        ("dot.png", (1, 1), 1, (0.1, 0.1, 0.1), (0, 0, 0)),
        *((f"{i}.png", (8, 8), 1, (0, 0.5 + i / 200, 0), (0, i % 2, 0)) for i in range(MANY)),
    ]
    stage, selection = folder / "visualization", Selection(LABELS, Cutoffs.at(0.5, 3))
    made = Gallery(stage, LABELS, "stored", ["evidence", "attention"], boxes=True)
    with contextlib.ExitStack() as stack:
        writer = ResultsWriter(stack, stage, made)
        for row, (name, size, orientation, scores, targets) in enumerate(pictures):
            image, exif = corner(size, orientation)
            image.save(folder / name, exif=exif)
            values = np.array(scores, np.float32)
            tags = selection.tags(values, np.array(targets), np.zeros(3, bool))
            tagged = TaggedImage(row, str(folder / name), tags, ("", 0.0), {})
            writer.add(made.draw(tagged, values, heat))
        writer.finish(f"Heatmaps of {HOSTILE}", "facts")
    return stage


@pytest.fixture
def page(browser, gallery):  # noqa: F811
    """The page at a laptop's width."""
    with opened_page(browser, gallery / "index.html", 1400, 900) as opened:
        yield opened


def paths(page):
    return page.locator("#cards .path").all_inner_texts()


def first(page):
    return page.locator("#cards > li").first


def test_filter_by_label_and_verdict_and_order_by_score(page):
    count = page.locator("#count")
    assert count.inner_text() == f"{MANY + 4} of {MANY + 4} images"
    assert page.locator("#label option").all_inner_texts() == [
        "all", "dog (2)", f"cat ({MANY + 1})", f"{HOSTILE} (1)"
    ]  # fmt: skip
    page.select_option("#label", label="dog (2)")
    assert paths(page) == ["wide.jpg", "<b>.png"]
    assert page.locator("#verdicts button").all_inner_texts() == [
        "All", "✓ Correct (1)", "○ Missed (1)", "✗ False alarms (0)"
    ]  # fmt: skip
    page.get_by_role("button", name="Missed (1)").click()
    assert paths(page) == ["<b>.png"] and count.inner_text() == f"1 of {MANY + 4} images"
    page.select_option("#label", "-1")
    page.get_by_role("button", name="False alarms").click()
    assert count.inner_text() == f"{MANY // 2 + 1} of {MANY + 4} images"
    page.get_by_role("button", name="All").click()
    assert count.inner_text() == f"{MANY + 4} of {MANY + 4} images"
    for label, order, first_two in (
        (f"cat ({MANY + 1})", "high", ["69.png", "68.png"]),
        (f"cat ({MANY + 1})", "low", ["0.png", "1.png"]),
        (f"cat ({MANY + 1})", "file", ["<b>.png", "0.png"]),
        ("all", "high", ["wide.jpg", "69.png"]),
    ):
        page.select_option("#label", label=label)
        page.select_option("#order", order)
        assert paths(page)[:2] == first_two


def test_a_label_lays_its_heatmap_over_the_picture(page):
    card = first(page)
    tag, canvas = card.locator(".tag"), card.locator("canvas")
    assert tag.inner_text() == "✓ dog 0.90" and canvas.count() == 0
    tag.hover()
    assert canvas.get_attribute("data-label") == "dog"
    assert canvas.bounding_box() == card.locator("img").bounding_box()
    page.mouse.move(0, 0)
    assert canvas.count() == 0
    tag.click()
    page.mouse.move(0, 0)
    assert canvas.count() == 1 and tag.get_attribute("aria-pressed") == "true"
    tag.click()
    page.mouse.move(0, 0)
    page.locator("#order").focus()
    assert canvas.count() == 0 and tag.get_attribute("aria-pressed") == "false"


def hottest(canvas):
    """Where the heatmap is most opaque, as shares of width and height."""
    return canvas.evaluate(
        """canvas => {
          const [w, h] = [canvas.width, canvas.height];
          const data = canvas.getContext("2d").getImageData(0, 0, w, h).data;
          let best = 0;
          for (let p = 0; p < w * h; p++) if (data[4 * p + 3] > data[4 * best + 3]) best = p;
          return [(best % w) / w, Math.floor(best / w) / h];
        }"""
    )


@pytest.mark.parametrize("row, upright, right", [(0, (256, 128), True), (1, (128, 256), False)])
def test_heatmaps_lie_where_a_person_sees_the_object(page, gallery, row, upright, right):
    """A quarter turn clockwise brings what is stored at the lower right to the lower left."""
    page.locator(".open").nth(row).click()
    box = page.locator("#viewer-frame")
    assert box.locator("canvas").bounding_box() == box.locator("img").bounding_box()
    x, y = hottest(box.locator("canvas"))
    assert y > 0.5 and (x > 0.75 if right else x < 0.5)
    file = page.locator("#viewer-frame img").get_attribute("src")
    image = Image.open(gallery / file)
    assert image.size == upright and not image.getexif()
    width, height = image.size
    assert image.getpixel((round((width - 1) * x), round((height - 1) * y))) > (200, 200, 200)
    frame, around = (box.locator(one).bounding_box() for one in ("img", ".box"))
    if right:
        assert around["x"] > frame["x"] + 0.6 * frame["width"]
    assert around["y"] > frame["y"] + 0.3 * frame["height"]
    page.keyboard.press("h")
    assert box.locator(".box").count() == 0


def test_the_other_map_is_a_click_or_a_key_away(page):
    meaning = page.locator(".meaning").first
    assert "evidence" in meaning.inner_text() and "attention" not in meaning.inner_text()
    page.locator(".open").first.click()
    canvas = page.locator("#viewer-frame canvas")
    assert hottest(canvas)[1] > 0.5 and page.locator("#map").inner_text() == "evidence"
    page.keyboard.press("m")
    assert hottest(canvas)[1] < 0.5 and page.locator("#map").inner_text() == "attention"
    page.keyboard.press("m")
    assert [hottest(one)[1] > 0.5 for one in canvas.all()] == [True, False]
    left, right = (one.bounding_box() for one in page.locator("#viewer-frame img").all())
    assert left["x"] + left["width"] <= right["x"] and left["height"] == right["height"]
    assert [left, right] == [one.bounding_box() for one in canvas.all()]
    assert page.locator("#map").inner_text() == "evidence, attention"
    page.keyboard.press("m")
    assert hottest(canvas)[1] > 0.5
    page.keyboard.press("Escape")
    page.get_by_role("button", name="side by side").click()
    assert re.match(r"Left: evidence\..* Right: attention\.", meaning.inner_text())
    first(page).locator(".tag").hover()
    assert first(page).locator("canvas").count() == 2
    page.get_by_role("button", name="attention", exact=True).click()
    assert "attention" in meaning.inner_text() and "evidence" not in meaning.inner_text()
    page.locator(".open").first.click()
    assert hottest(canvas)[1] < 0.5


def test_keys_walk_through_images_and_labels(page):
    page.locator(".open").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    position, canvas = page.locator("#position"), page.locator("#viewer-frame canvas")
    assert position.inner_text() == f"3 of {MANY + 4}"
    assert page.locator("#viewer-path").inner_text().endswith("/<b>.png")
    assert canvas.get_attribute("data-label") == "cat"
    page.keyboard.press("ArrowDown")
    assert canvas.get_attribute("data-label") == "dog"
    page.keyboard.press("h")
    assert canvas.count() == 0
    page.keyboard.press("h")
    page.keyboard.press("ArrowUp")
    assert canvas.get_attribute("data-label") == "cat"
    page.keyboard.press("ArrowRight")
    assert position.inner_text().startswith("4 of") and canvas.count() == 0
    page.keyboard.press("End")
    assert position.inner_text() == f"{MANY + 4} of {MANY + 4}"
    page.keyboard.press("ArrowRight")
    assert position.inner_text() == f"{MANY + 4} of {MANY + 4}"
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()
    # the focus moves once the browser has told the page that the viewer is closed
    page.wait_for_function("/^open .*69.png/.test(document.activeElement.ariaLabel)")


def test_the_viewer_opens_on_what_is_filtered_for(page):
    """A label, or one with that verdict, whatever was looked at before."""
    shown = page.locator("#viewer-frame canvas")
    page.locator(".open").nth(2).click()
    assert shown.get_attribute("data-label") == "cat"
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Missed (1)").click()
    page.locator(".open").first.click()
    assert shown.get_attribute("data-label") == "dog"
    page.keyboard.press("Escape")
    page.get_by_role("button", name="All").click()
    page.select_option("#label", label="dog (2)")
    page.locator(".open").nth(1).click()
    assert shown.get_attribute("data-label") == "dog"


def test_pictures_come_as_they_are_scrolled_to(page):
    cards = page.locator("#cards > li")
    assert cards.count() == 60 and page.locator("#cards script").count() == 0
    assert page.title() == f"Heatmaps of {HOSTILE}"  # labels are text
    assert page.locator("#cards .tag").nth(1).inner_text() == f"✗ {HOSTILE} 0.80"
    assert page.locator("#cards img:not([loading=lazy])").count() == 0
    cards.last.scroll_into_view_if_needed()
    page.wait_for_function(f"document.querySelectorAll('#cards > li').length == {MANY + 4}")


def test_everything_has_a_name_and_fits_a_phone_and_focus_is_seen(page):
    page.keyboard.press("Tab")
    style = "getComputedStyle(document.activeElement)"
    assert page.evaluate(f"{style}.outlineStyle + {style}.outlineWidth") == "solid3px"
    for image in page.locator("img").all()[:5]:
        assert image.get_attribute("alt")
    assert page.locator("img").first.get_attribute("alt").endswith("wide.jpg: dog correct")
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.locator(".open").first.click()
    box = page.locator("#viewer-frame img").bounding_box()
    assert box["width"] > 250 and box["x"] + box["width"] <= 360
    for name in ("#viewer-tags .tag", "#next", "#close"):
        assert page.locator(name).is_visible()


def test_a_page_without_its_data_says_so(browser, gallery, tmp_path):  # noqa: F811
    shutil.copy(gallery / "index.html", tmp_path)
    with_nothing = browser.new_page()
    with_nothing.goto(f"{tmp_path.as_uri()}/index.html")
    assert "data.js" in with_nothing.locator("#message").inner_text()
    with_nothing.close()


def luminance(color):
    digits = color.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = np.array([int(digits[place : place + 2], 16) for place in (0, 2, 4)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_has_contrast_in_light_and_dark():
    style = (TEMPLATES / "base.css").read_text()
    schemes = [dict(re.findall(r"--(\w+): (#\w+);", part)) for part in style.split("@media")[:2]]
    for scheme in schemes:
        assert len(scheme) == 6
        for text in ("ink", "quiet", "accent"):
            for ground in ("ground", "panel"):
                assert contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground)
    marks = re.findall(r"\.mark[.\w]* \{ background: (#\w+);", style)
    assert len(marks) == 4
    assert all(contrast("#fff", mark) >= 4.5 for mark in marks)
