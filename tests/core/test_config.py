"""Configurations: JSON and back, and one clear sentence for everything that does not fit."""

import json
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest

from limbeck.core.config import Json, NamedConfig, from_json, to_json
from limbeck.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Shape(NamedConfig):
    @classmethod
    def choose(cls, name: str) -> type["Shape"]:
        if name != "circle":
            raise UserError(f"unknown shape '{name}'")
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
    ("data", "sentence"),
    [
        ({"title": "a", "layer": [1]}, "unknown key 'layer' .did you mean 'layers'"),
        ({}, "lacks the key 'title'"),
        ({"title": 3}, "config.title is 3, which is not of type str"),
        ({"title": "a", "mode": "quick"}, "config.mode is 'quick', which is not one of fast, slow"),
        ({"title": "a", "layers": [1, "b"]}, r"config.layers is 'b'|config.layers"),
        ({"title": "a", "corner": [1.0]}, "config.corner"),
        ({"title": "a", "shape": {"name": "square"}}, "unknown shape 'square'"),
        ({"title": "a", "shape": {"name": "circle", "radius": "big"}}, "config.shape.radius is 'big'"),
        ([], "must be an object"),
    ],
)
def test_what_does_not_fit_is_named(data: Json, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        from_json(Picture, data)
