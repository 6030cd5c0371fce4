"""The page in a real browser: pointing, the depths, the lasso, the search; and file names that are HTML."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limbeck.downstream.explorer.build import write_explorer
from limbeck.downstream.explorer.config import ExploreConfig
from tests.helpers.chromium import MISSING, opened

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

EVIL = "<img src=x onerror=document.title=1>.png"
SCRIPT = "</script><script>document.title=2</script>"


SHAPES = """() => [0, 1, 2, 3].map((shape) => {
  const ink = Object.assign(document.createElement("canvas"), { width: 40, height: 40 }).getContext("2d");
  ink.beginPath(); trace(ink, shape, 20, 20, 20); ink.fill();
  return [[4, 20], [9, 9], [5, 36]].map(([x, y]) => Number(ink.getImageData(x, y, 1, 1).data[3] > 127));
})"""
"""Whether the left, a place near the upper corner, and the lower corner are painted, for every shape of a point."""


@pytest.fixture(scope="module")
def page(trained: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page of 80 digits, two of which have HTML in their names."""
    folder = tmp_path_factory.mktemp("explored")
    shutil.copytree(photos / "test", folder / "photos")
    (folder / "photos" / "0" / "16.png").rename(folder / "photos" / "0" / EVIL)
    (folder / "photos" / "1").rename(folder / "photos" / SCRIPT.replace("/", "-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        write_explorer(folder / "photos", trained, folder / "page.html", cfg=ExploreConfig(layout="pca"))
    return folder / "page.html"


def places(tab: Any) -> list[tuple[float, float]]:
    """Return where every image is on the map, in pixels of the window."""
    box = tab.locator("#overlay").bounding_box()
    return [
        (box["x"] + x, box["y"] + y)
        for x, y in tab.evaluate("() => Array.from({length: count}, (_, i) => toScreen(i))")
    ]


def test_pointing_shows_the_photograph_and_a_click_its_neighbors_at_every_depth(page: Path) -> None:
    with opened(page) as tab:
        tab.locator("#photos").click()
        found = tab.evaluate("() => Array.from(later.neighbors)")
        depths, shown = tab.evaluate("() => [about.depths, about.shown]")
        neighbors = np.array(found).reshape(len(depths), 80, shown)
        x, y = places(tab)[40]
        tab.mouse.move(x, y)
        under = tab.evaluate("() => state.hover")
        assert tab.locator("#tip").is_visible()
        assert tab.evaluate("() => nameOf(state.hover)") in tab.locator("#tip p").inner_text()
        assert pixels_differ(tab, "#tip canvas")
        tab.mouse.click(x, y)
        assert tab.locator("#image h2").inner_text() == tab.evaluate(f"() => nameOf({under})")
        for depth in (2, 0, 1):
            tab.locator("#depth").fill(str(depth))
            titles = tab.locator("#near button").evaluate_all("(all) => all.map((button) => button.title)")
            expected = neighbors[depth, under].tolist()
            assert titles == [tab.evaluate(f"() => nameOf({i})") for i in expected]
            assert f"{depths[depth]} of 3" in tab.locator("#at").inner_text()
        assert neighbors[0, under].tolist() != neighbors[2, under].tolist()


def pixels_differ(tab: Any, selector: str) -> bool:
    """Return whether a canvas shows more than one color."""
    count = "(c) => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
    return int(tab.locator(selector).evaluate(count)) > 4


def test_a_lasso_lists_the_files_inside_it_for_the_clipboard_and_a_download(page: Path) -> None:
    with opened(page, permissions=["clipboard-read", "clipboard-write"]) as tab:
        for _ in range(2):
            tab.locator("#farther").click()  # so that no point is under the tools or the legend
        spots = places(tab)
        xs, ys = zip(*spots, strict=True)
        left, right, top, bottom = min(xs) - 9, float(np.median(xs)), min(ys) - 9, max(ys) + 9
        tab.locator("#lasso").click()
        tab.mouse.move(right, top)
        tab.mouse.down()
        for x, y in ((right, bottom), (left, bottom), (left, top), (right, top)):
            tab.mouse.move(x, y, steps=4)
        tab.mouse.up()
        names = tab.evaluate("() => Array.from({length: count}, (_, i) => nameOf(i))")
        inside = [name for name, (x, _) in zip(names, spots, strict=True) if x < right]
        assert 20 < len(inside) < 60
        assert tab.locator("#list textarea").input_value().split("\n") == inside
        tab.locator("#list .main").click()
        assert tab.evaluate("() => navigator.clipboard.readText()").split("\n") == inside
        with tab.expect_download() as download:
            tab.get_by_role("button", name="Download").click()
        assert Path(download.value.path()).read_text(encoding="utf-8").splitlines() == inside
        tab.keyboard.press("Escape")
        assert tab.locator("#list textarea").count() == 0


def test_search_finds_names_and_html_in_them_stays_text(page: Path) -> None:
    with opened(page) as tab:
        tab.keyboard.press("/")
        tab.keyboard.type("ONERROR")
        assert tab.locator("#list textarea").input_value() == f"0/{EVIL}"
        tab.locator("#list .grid button").first.click()
        assert tab.locator("#image h2").inner_text() == f"0/{EVIL}"
        tab.locator("#search").fill("<script>")
        assert len(tab.locator("#list textarea").input_value().split("\n")) == 8
        tab.locator("#tab-groups").click()
        assert tab.locator("#groups .cluster").count() == 10
        assert tab.title() not in ("1", "2")
        assert tab.locator("img").count() == 0


def test_colors_legend_and_clusters_choose_what_is_shown(page: Path) -> None:
    with opened(page) as tab:
        modes = tab.locator("#color option").evaluate_all("(all) => all.map((option) => option.value)")
        assert modes == ["label", "cluster", "unusual", "mistakes", "probe"]
        shown = "() => Array.from({length: count}, (_, i) => i).filter((i) => shown(i)).length"
        assert tab.evaluate(shown) == 80
        tab.locator("#legend button").nth(3).click()
        assert tab.evaluate(shown) == 8
        for mode in modes:
            tab.locator("#color").select_option(mode)
            assert tab.evaluate(shown) == 80
            assert tab.locator("#legend").inner_text()
        tab.locator("#tab-groups").click()
        size = int(re.findall(r"\d+", tab.locator(".cluster h3 span").first.inner_text())[0])
        tab.locator(".cluster h3 button").first.click()
        assert len(tab.locator("#list textarea").input_value().split("\n")) == size
        assert tab.evaluate(shown) == size


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_keyboard_and_a_phone_reach_everything(page: Path, scheme: str) -> None:
    with opened(page, width=390, height=844, color_scheme=scheme, has_touch=True) as tab:
        assert tab.evaluate("() => document.documentElement.scrollWidth") <= 390
        paper = tab.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", paper))) < 60) == (scheme == "dark")
        tab.locator("#overlay").focus()
        before = tab.evaluate("() => [state.x, state.y, state.zoom]")
        for key in ("ArrowRight", "ArrowDown", "+", "+"):
            tab.keyboard.press(key)
        after = tab.evaluate("() => [state.x, state.y, state.zoom]")
        assert all(b > a for a, b in zip(before, after, strict=True))
        tab.keyboard.press("Enter")
        assert tab.evaluate("() => state.chosen") >= 0
        tab.keyboard.press("[")
        assert tab.evaluate("() => state.depth") == 1
        tab.keyboard.press("0")
        assert tab.evaluate("() => [state.x, state.y, state.zoom]") == [0.5, 0.5, 1]
        x, y = places(tab)[11]
        tab.touchscreen.tap(x, y)
        assert tab.locator("#near button").count() > 0


def test_points_are_on_the_screen_with_webgl_and_without(page: Path, tmp_path: Path) -> None:
    def drawn(tab: Any) -> int:
        """Return how many colors the screenshot of the map has."""
        tab.locator("#photos").click()
        tab.locator("#stage").screenshot(path=tmp_path / "stage.png")
        return len(np.unique(np.asarray(Image.open(tmp_path / "stage.png").convert("RGB")).reshape(-1, 3), axis=0))

    with opened(page) as tab:
        assert tab.evaluate("() => Boolean(points.getContext('webgl2'))")
        assert drawn(tab) > 50
    text = page.read_text(encoding="utf-8")
    plain = tmp_path / "plain.html"
    policy = re.search(r"; script-src 'sha256-[^']+'", text)
    assert policy
    plain.write_text(
        text.replace(policy.group(), "; script-src 'unsafe-inline'").replace('getContext("webgl2"', 'getContext("none"')
    )
    with opened(plain) as tab:
        assert drawn(tab) > 50
        assert tab.evaluate(SHAPES) == [[1, 1, 0], [1, 1, 1], [0, 0, 1], [1, 0, 0]]
