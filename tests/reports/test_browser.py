"""Pages in a real browser: no message, no request, no scrolling to the side on a phone, light and dark."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import limbeck
from limbeck.reports.page import write_report
from tests.helpers.browser import CHROMIUM, open_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")

PHONE = 390  # pixels
DARK = "--blink-settings=preferredColorScheme=0"
HOSTILE = '"><script>alert(1)</script>' + "very-long-name-without-a-space-" * 8 + "&amp;.png"


def test_a_report_is_readable_on_a_phone_and_in_the_dark(trained: Path, tmp_path: Path) -> None:
    page = write_report([trained], tmp_path / "report.html")
    light, dark = (open_page(page, PHONE, tmp_path, *options) for options in ((), (DARK,)))
    assert light["width"] == PHONE
    assert (light["console"], light["requests"]) == ([], [])
    assert light["charts"] >= 3
    assert light["stops"] >= 15, "values can be reached with the keyboard"
    assert light["images"] > 50
    assert light["paper"] != dark["paper"]


def test_a_check_with_hostile_names_is_readable_on_a_phone(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    name = HOSTILE.replace("/", "_")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / name[-200:])
    (folder / "broken <b>.png").write_bytes(b"")
    limbeck.check(str(folder), tmp_path / "check")
    found = open_page(tmp_path / "check" / "check.html", PHONE, tmp_path)
    assert found["width"] == PHONE
    assert (found["console"], found["requests"]) == ([], [])
    assert found["images"] == 1
