"""Configurations: JSON and back, and one clear sentence for everything that does not fit."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from limbeck.core.config import Json, NamedConfig, from_file, from_json, read_mapping, to_json
from limbeck.core.errors import UserError
from tests.helpers.errors import raises


@dataclass(frozen=True, kw_only=True)
class Shape(NamedConfig):
    @classmethod
    def choose(cls, name: str) -> type["Shape"]:
        if name != "circle":
            raise UserError(f"unknown shape '{name}'", code="unknown-shape")
        return Circle


@dataclass(frozen=True, kw_only=True)
class Circle(Shape):
    name: ClassVar[str] = "circle"
    radius: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Picture:
    title: str
    shape: Shape = field(default_factory=Circle)
    layers: tuple[int, ...] | None = None
    corner: tuple[float, float] = (0.0, 0.0)
    mode: Literal["fast", "slow"] = "fast"
    extra: dict[str, Json] = field(default_factory=dict)


def test_json_and_back() -> None:
    picture = Picture(
        title="a", shape=Circle(radius=2), layers=(), corner=(1, 2.5), mode="slow", extra={"a": [1, None]}
    )
    assert from_json(Picture, json.loads(json.dumps(to_json(picture)))) == picture


@pytest.mark.parametrize(
    ("data", "code", "values"),
    [
        ({"title": "a", "layer": [1]}, "unknown-key", ["'layer'", "'layers'"]),
        ({}, "missing-key", ["'title'"]),
        ({"title": 3}, "wrong-type", ["config.title", "3", "str"]),
        ({"title": "a", "mode": "quick"}, "wrong-type", ["config.mode", "'quick'", "fast, slow"]),
        ({"title": "a", "layers": [1, "b"]}, "wrong-type", ["config.layers", "'b'"]),
        ({"title": "a", "corner": [1.0]}, "wrong-type", ["config.corner"]),
        ({"title": "a", "corner": [1.0, math.inf]}, "wrong-type", ["config.corner", "inf"]),
        ({"title": "a", "shape": {"name": "square"}}, "unknown-shape", ["'square'"]),
        ({"title": "a", "shape": {"name": "circle", "radius": "big"}}, "wrong-type", ["config.shape.radius", "'big'"]),
        ([], "not-a-mapping", ["[]"]),
    ],
)
def test_what_does_not_fit_is_named(data: Json, code: str, values: list[str]) -> None:
    with raises(code, *values):
        from_json(Picture, data)


YAML = """
title: a  # a comment
shape: {name: circle, radius: 1e-3}
layers: [1, 2]
corner:
  - 1
  - 2.5e1
"""


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    expected = Picture(title="a", shape=Circle(radius=0.001), layers=(1, 2), corner=(1.0, 25.0))
    (tmp_path / "a.yaml").write_text(YAML)
    (tmp_path / "b.json").write_text(json.dumps(to_json(expected)))
    assert from_file(Picture, tmp_path / "a.yaml") == from_file(Picture, tmp_path / "b.json") == expected


@pytest.mark.parametrize(
    ("name", "text", "code", "value"),
    [
        ("a.yml", "titel: a", "unknown-key", "'titel'"),
        ("a.yaml", "a: [", "not-yaml", "a.yaml"),
        ("a.yaml", "!!python/object/apply:os.abort []", "not-yaml", "a.yaml"),
        ("a.yaml", "just words", "not-a-mapping", "just words"),
        ("a.yaml", "", "not-a-mapping", "None"),
        ("a.json", "{", "not-json", "a.json"),
        ("a.json", "[1]", "not-a-mapping", "[1]"),
        ("a.toml", "title = 'a'", "unknown-file-type", "a.toml"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, name: str, text: str, code: str, value: str) -> None:
    (tmp_path / name).write_text(text)
    with raises(code, value):
        from_file(Picture, tmp_path / name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("a.yaml", "a.json"):
        with raises("not-readable", tmp_path / name):
            read_mapping(tmp_path / name)
