"""Pages from Jinja2 templates: one environment and, for HTML, one base template and one palette.

The templates are in `limbeck/core/templates`. A page extends `base.html`, which holds the document's shell, the style
that all pages share and the palette as CSS variables, for light and dark screens. A value that is put into a page is
escaped unless it is `Markup` (or the template is Markdown), and the page's own policy forbids scripts and everything
from elsewhere.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

LIGHT: Mapping[str, str] = {
    "ink": "#1a2230",  # text
    "quiet": "#566072",  # secondary text
    "paper": "#f5f6f9",  # background of the page
    "card": "#ffffff",  # background of a section
    "line": "#e2e6ed",  # borders, rules and grids
    "accent": "#2456c4",
    "mark": "#edf2fd",  # background of a highlighted row
    "good": "#1d7044",
    "bad": "#b3261e",
    "series-0": "#2359c8",  # lines of a chart, which people with any color vision can tell apart
    "series-1": "#c4520a",
    "series-2": "#0a7d6c",
    "series-3": "#a8459a",
    "series-4": "#85690a",
    "series-5": "#4a5568",
    "ramp-0": "#3b2a78",  # both ends of the shades of an ordered set of lines
    "ramp-1": "#1f9e89",
}
DARK: Mapping[str, str] = {
    "ink": "#e8ecf3",
    "quiet": "#a3adbd",
    "paper": "#10141b",
    "card": "#181e27",
    "line": "#2a323f",
    "accent": "#8fb0ff",
    "mark": "#1d2942",
    "good": "#7fd6a4",
    "bad": "#ff9c94",
    "series-0": "#82aaff",
    "series-1": "#ff9f66",
    "series-2": "#4fd0b5",
    "series-3": "#e79adf",
    "series-4": "#e3c75a",
    "series-5": "#b4bfd0",
    "ramp-0": "#b9a5ff",
    "ramp-1": "#4fd0b5",
}
SERIES = 6
"""Colors of lines: the variables --series-0 to --series-5."""
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"

PAGE_START = b'<!doctype html>\n<html lang="en">\n<head>\n<meta name="generator" content="Limbeck">\n'
"""The beginning of every page that Limbeck writes, by which it recognizes its own pages."""


def render(template: str, **values: Any) -> str:
    """Return the page of a template of `limbeck/core/templates`; a value that the template lacks is an error."""
    return _environment().get_template(template).render(**values)


def _code(text: str) -> Markup:
    """Return an escaped sentence in which what stands between backticks is code, as a terminal's user knows it."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("limbeck.core"),
        autoescape=lambda name: not (name or "").endswith(".md"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = _code
    environment.globals |= {"light": LIGHT, "dark": DARK, "font": FONT}
    return environment
