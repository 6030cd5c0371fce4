"""Plans for many images: every stage by hand, where each limit lies, and the tables of the page."""

from dataclasses import replace
from pathlib import Path

import pytest

from limbeck.runs.scale import page
from limbeck.runs.scale.arithmetic import Stage, Workload, stages
from limbeck.runs.scale.constants import Constants, names_of, read_constants, unit_of
from limbeck.runs.scale.limits import limits
from limbeck.runs.scale.plan import plan_scale
from tests.helpers.errors import raises

GIVEN = Constants(
    cores=10,
    memory_bytes=1e9,
    disk_bytes=1e12,
    store_size=100,
    source_bytes=1e5,
    stored_bytes=1e4,
    build_core_seconds=0.01,
    read_core_seconds=0.001,
    step_images_per_second=500,
    forward_images_per_second=50_000,
    teacher_images_per_second=2_000,
    products_per_second=1e12,
    dim=100,
    teacher_dim=200,
    gradient_bytes=1e8,
    run_bytes=7e8,
    batch_size=250,
)
N = 1e6


def named(found: list[Stage]) -> dict[str, Stage]:
    return {stage.name.partition(",")[0]: stage for stage in found}


def test_devices_and_decoding_overlap_on_gpus() -> None:
    """Two machines of four GPUs and ten cores: 20,000 images a second are decoded."""
    found = named(stages(GIVEN, Workload(images=N, machines=2, gpus=4), epochs=3))
    assert found["store"].seconds == pytest.approx(N * 0.01 / 20)
    assert found["store"].disk_bytes == N * 1e4
    assert found["store"].network_bytes_per_second == pytest.approx(1e5 * 10 / 0.01)
    assert found["teacher"].seconds == pytest.approx(N / 16_000)
    assert found["teacher"].bound_by == "GPUs"
    assert found["teacher"].disk_bytes == N * 200 * 2
    search = 2 * N**2 * 100 / 8e12
    assert found["graph"].seconds == pytest.approx(N / 20_000 + search)
    assert found["graph"].bound_by == "decoding"
    assert found["training"].seconds == pytest.approx(3 * N / 4000)
    assert found["training"].bound_by == "GPUs"
    assert found["evaluation"].seconds == pytest.approx(N / 10_000 + 2 * 50_000 * N * 100 / 1e12)


def test_a_processor_decodes_and_computes_one_after_the_other() -> None:
    found = named(stages(GIVEN, Workload(images=N, machines=2), epochs=1))
    assert found["training"].seconds == pytest.approx(N * (1 / 1000 + 0.001 / 20))
    assert found["training"].bound_by == "cores"


def test_disk_and_network_bound_what_they_carry() -> None:
    workload = Workload(images=N, machines=4, gpus=1)
    slow = replace(GIVEN, disk_bytes_per_second=1e6, network_bytes_per_second=1e6)
    found = named(stages(slow, workload, epochs=1))
    assert found["store"].seconds == pytest.approx(N * 1e5 / 4e6)
    assert found["store"].bound_by == "disk"
    exchange = 2 * 1e8 * 3 / 4 / 1e6  # seconds, for a step of 1,000 images
    assert found["training"].seconds == pytest.approx(N / 1000 * exchange)
    assert found["training"].bound_by == "network"
    assert named(stages(slow, replace(workload, machines=1), 1))["training"].bound_by == "disk"


def test_a_limit_is_where_a_stage_takes_what_there_is() -> None:
    workload = Workload(images=1e8, machines=1, gpus=4)
    found = {limit.what: limit for limit in limits(GIVEN, workload)}
    assert found["disk for a raw store"].stops_at == pytest.approx(1e12 / 30_000)
    assert found["disk for an encoded store"].stops_at == pytest.approx(1e8)
    rows = found["an exact graph within a day"].stops_at
    alone = replace(GIVEN, read_core_seconds=1e-12, forward_images_per_second=1e15)
    assert named(stages(alone, replace(workload, images=rows), 1))["graph"].seconds == pytest.approx(86_400)
    assert found["cores that decode for training"].stops_at == pytest.approx(10_000 / 500)
    assert found["cores that decode for a pass"].is_exceeded
    assert not found["disk for an encoded store"].is_exceeded


def test_constants_are_read_and_what_lacks_is_named(tmp_path: Path) -> None:
    file = tmp_path / "constants.yaml"
    file.write_text("cores: 16\nread_core_seconds: 1e-3\n")
    assert read_constants(str(file)) == Constants(cores=16, read_core_seconds=0.001)
    assert Constants(cores=2).over(Constants(cores=1, dim=3)) == Constants(cores=2, dim=3)
    with raises("missing-constants", "gradient_bytes", unit_of("gradient_bytes")):
        Constants().need("gradient_bytes")
    with raises("out-of-range", "dim", "-1"):
        Constants(dim=-1)
    file.write_text("core: 16\n")
    with raises("unknown-key", "'core'", "'cores'"):
        read_constants(str(file))


def test_what_is_given_is_not_measured_and_gpus_elsewhere_must_be_given() -> None:
    known = replace(GIVEN, cores=None)
    found = plan_scale(Workload(images=N, machines=2, gpus=4), given=known, epochs=1)
    assert found.origins["dim"] == "given"
    assert found.origins["cores"] == "measured"
    assert found.stages == stages(found.constants, found.workload, 1)
    some = replace(GIVEN, dim=None, run_bytes=None)
    with raises("missing-constants", "dim", "run_bytes", "--gpus 0"):
        plan_scale(Workload(images=N, gpus=4), given=some, epochs=1)
    assert "teacher_dim" in names_of("device")


def test_the_page_has_what_its_constants_give() -> None:
    text = (Path(__file__).parents[3] / "docs" / "scale.md").read_text(encoding="utf-8")
    written = text.split(page.BEGIN)[1].split(page.END)[0].strip()
    assert written == page.tables_of(text), "run `python -m limbeck.runs.scale.page`"
