"""HTML pages from Jinja2 templates: one environment, one base template, one palette.

The templates are in `limbeck/templates`. A page extends `base.html`, which holds the document's shell, the style that
all pages share and the palette as CSS variables; a value that is put into a page is escaped unless it is `Markup`.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

LIGHT: Mapping[str, str] = {
    "ink": "#1c2433",  # text
    "quiet": "#5a6475",  # secondary text
    "paper": "#f6f7fa",  # background of the page
    "card": "#ffffff",  # background of a section
    "line": "#e3e7ee",  # borders, rules and grids
    "accent": "#2456c4",
    "mark": "#eef3fd",  # background of a highlighted row
    "good": "#1d7044",
    "bad": "#b3261e",
}
DARK: Mapping[str, str] = {
    "ink": "#e9edf4",
    "quiet": "#a8b1c0",
    "paper": "#12161d",
    "card": "#1a2029",
    "line": "#2b3340",
    "accent": "#8fb0ff",
    "mark": "#1f2c46",
    "good": "#7fd6a4",
    "bad": "#ff9c94",
}
SERIES = ("#2456c4", "#d1495b", "#0b7a75", "#8a5cc2", "#b0700c", "#4a5568")
"""Colors of the lines of a chart; they differ without red against green."""
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"

PAGE_START = b'<!doctype html>\n<html lang="en">\n<head>\n<meta name="generator" content="Limbeck">\n'
"""The beginning of every page that Limbeck writes, by which it recognizes its own pages."""


def render(template: str, **values: Any) -> str:
    """Return the page of a template of `limbeck/templates`; a value that the template lacks is an error.

    A page supports dark mode unless its template sets `dark = false`.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("limbeck"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"light": LIGHT, "dark_palette": DARK, "font": FONT}
    return environment
