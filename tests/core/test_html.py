"""Every page is escaped, complete in one file, and has the palette; a forgotten value is an error."""

import pytest
from jinja2 import DictLoader, UndefinedError
from markupsafe import Markup

from limbeck.core import html
from limbeck.core.html import DARK, LIGHT, render

PAGE = """{% extends "base.html" %}{% block title %}{{ name }}{% endblock %}
{% block main %}<h1>{{ name }}</h1>{{ chart }}{% endblock %}"""


@pytest.fixture(autouse=True)
def templates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two more templates than the package has."""
    environment = html._environment()
    assert environment.loader is not None
    base = {name: environment.loader.get_source(environment, name)[0] for name in ("base.html", "base.css")}
    light = "{% set dark = false %}"
    overlay = environment.overlay(
        loader=DictLoader(base | {"page": PAGE, "light": PAGE.replace("%}", "%}" + light, 1)})
    )
    monkeypatch.setattr(html, "_environment", lambda: overlay)


def test_values_are_escaped_unless_they_are_markup() -> None:
    page = render("page", name="<script>1</script>", chart=Markup("<svg/>"))
    assert "<script" not in page
    assert "<title>Limbeck: &lt;script&gt;" in page
    assert "<svg/>" in page


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="chart"):
        render("page", name="a")


def test_both_palettes_have_the_same_names_and_a_page_may_have_one() -> None:
    assert LIGHT.keys() == DARK.keys()
    both, light = (render(name, name="a", chart="") for name in ("page", "light"))
    assert all(f"--{name}: {color};" in both for palette in (LIGHT, DARK) for name, color in palette.items())
    assert DARK["ink"] not in light
    assert "prefers-color-scheme" not in light


def test_the_page_needs_no_other_file() -> None:
    page = render("page", name="a", chart="")
    assert not [word for word in ("http", "src=", "<link", "@import", "url(") if word in page]
    assert "&#39;" not in page
