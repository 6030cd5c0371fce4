"""Charts: ticks, places, what is joined, what is a number, and which peaks survive thinning."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.reports.axis import depth_axis, range_axis, value_axis
from limbeck.reports.plot import MAX_POINTS, MAX_STOPS, Chart, Line, Numbers, Point, Rule, draw, thin

values = st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 4)), min_size=1, max_size=20)


def chart(*lines: Line, rules: tuple[Rule, ...] = ()) -> Chart:
    xs = [point.x for line in lines for point in line.points]
    found = draw("caption", lines, range_axis(xs), "epoch", rules=rules)
    assert isinstance(found, Chart)
    return found


def line(*ys: float, xs: tuple[float, ...] = (), dots: bool = False, error: float = 0.0) -> Line:
    return Line(
        "a", "red", [Point(x, y, error=error) for x, y in zip(xs or range(len(ys)), ys, strict=True)], dots=dots
    )


@given(values)
def test_every_value_is_on_its_axis_and_few_ticks_have_different_labels(found: list[float]) -> None:
    for axis in (value_axis(found), value_axis(found, zero=True), range_axis(found)):
        assert all(0 <= axis.place(value) <= 100 for value in found)
        assert all(-0.01 <= place <= 100.01 for place, _ in axis.marks)
        assert len(axis.ticks) <= 8
        assert len({*axis.labels}) == len(axis.labels)
    assert value_axis(found, zero=True).low <= 0


@pytest.mark.parametrize(
    ("found", "labels"),
    [
        ([0.0], ["0.0", "0.5", "1.0"]),
        ([29.1, 42.4], ["25", "30", "35", "40", "45"]),
        ([0.0, 0.002], ["0.0000", "0.0005", "0.0010", "0.0015", "0.0020"]),
        ([0, 2e6], ["0", "500,000", "1,000,000", "1,500,000", "2,000,000"]),
    ],
)
def test_labels_have_the_decimals_that_they_need(found: list[float], labels: list[str]) -> None:
    assert value_axis(found).labels == labels


def test_many_depths_are_not_all_written_but_the_last_is() -> None:
    axis = depth_axis(range(1, 41))
    assert axis.labels[-1] == "40"
    assert len(axis.labels) <= 12
    assert depth_axis([1, 2, 3]).labels == ["1", "2", "3"]


def test_points_are_joined_only_in_the_order_of_the_axis() -> None:
    ordered, scribble = line(1, 2, 3, dots=True), line(1, 2, 3, xs=(0.75, 165, 41), dots=True)
    assert re.fullmatch(r"M[-0-9. L]+", chart(ordered).lines[0].path)
    assert chart(scribble).lines[0].path == ""
    assert chart(scribble).lines[0].dots.count("M") == 3


def test_the_axis_has_room_for_errors_and_rules() -> None:
    found = chart(line(1, 2, 3, error=0.5), rules=(Rule(9.0, "raw pixels 9.0"),))
    assert found.y.low <= 0.5
    assert found.y.high >= 9
    assert found.lines[0].whiskers.count("M") == 3
    assert [rule.text for rule in found.rules] == ["raw pixels 9.0"]


def test_fewer_than_three_readings_are_numbers_and_none_is_nothing() -> None:
    axis = range_axis([0, 1])
    found = draw("caption", [line(1.5, 2.25)], axis, "epoch", unit="%")
    assert isinstance(found, Numbers)
    assert found.rows[0].text == "0: 1.5 %, 1: 2.25 %"
    assert draw("caption", [line()], axis, "epoch") is None


def test_a_long_curve_is_thinned_without_losing_its_peaks() -> None:
    ys = [math.sin(number / 50) for number in range(5000)]
    ys[1234], ys[4321] = 40.0, -40.0
    points = line(*ys).points
    found = thin(points)
    assert len(found) <= MAX_POINTS
    assert {40.0, -40.0} <= {point.y for point in found}
    assert [point.x for point in found] == sorted(point.x for point in found)
    stops = chart(line(*ys)).stops
    assert len(stops) <= MAX_STOPS
    assert sum(stop.width for stop in stops) == pytest.approx(100, abs=1)
