"""Every page is escaped, complete in one file, and has the palette; a forgotten value is an error."""

from collections.abc import Mapping

import pytest
from jinja2 import DictLoader, UndefinedError
from markupsafe import Markup

from limbeck.core import html
from limbeck.core.html import DARK, LIGHT, SERIES, render

PAGE = """{% extends "base.html" %}{% block title %}{{ name }}{% endblock %}
{% block main %}<h1>{{ name }}</h1>{{ chart }}{% endblock %}"""


@pytest.fixture(autouse=True)
def templates(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more template than the package has."""
    environment = html._environment()
    assert environment.loader is not None
    base = {name: environment.loader.get_source(environment, name)[0] for name in ("base.html", "base.css")}
    overlay = environment.overlay(loader=DictLoader(base | {"page": PAGE}))
    monkeypatch.setattr(html, "_environment", lambda: overlay)


def test_values_are_escaped_unless_they_are_markup() -> None:
    page = render("page", name="<script>1</script>", chart=Markup("<svg/>"))
    assert "<script" not in page
    assert "<title>Limbeck: &lt;script&gt;" in page
    assert "<svg/>" in page


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="chart"):
        render("page", name="a")


def test_both_palettes_have_the_same_names_and_every_page_has_both() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert {f"series-{index}" for index in range(SERIES)} <= LIGHT.keys()
    page = render("page", name="a", chart="")
    assert all(f"--{name}: {color};" in page for palette in (LIGHT, DARK) for name, color in palette.items())
    assert "prefers-color-scheme: dark" in page


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colors as WCAG 2.1 defines it."""
    light = []
    for color in (one, other):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_text_and_lines_stand_out_from_their_background(palette: Mapping[str, str]) -> None:
    for name, color in palette.items():
        least = 4.5 if name in ("ink", "quiet", "accent", "good", "bad") else 3.0
        if name not in ("paper", "card", "line", "mark"):
            assert contrast(color, palette["card"]) >= least, name


def test_the_page_needs_no_other_file_and_forbids_scripts() -> None:
    page = render("page", name="a", chart="")
    assert not [word for word in ("http:", "https:", "src=", "<link", "@import", "url(", "<script") if word in page]
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
