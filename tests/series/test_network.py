"""The encoder of series equals TS2Vec's, at every block and in gradient; cuts, missing steps, files, refusals."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from limbeck.core.encoder_modality import encoder_modality
from limbeck.modalities.series import MODALITY
from limbeck.series.config import SeriesConfig, depth_for, fit_to_series, receptive_field
from limbeck.series.encoder_io import load_encoder
from limbeck.series.network import DilatedEncoder
from tests.helpers.errors import raises
from tests.helpers.golden import Golden, assert_allclose
from tests.helpers.tiny_series import tiny_encoder, waves

RTOL, ATOL = 1e-7, 1e-9


def ours(name: str) -> str:
    """Return the authors' name of a parameter."""
    for part, other in (("blocks.", "feature_extractor.net."), ("input_map", "input_fc")):
        name = name.replace(part, other)
    return name.replace("conv1.", "conv1.conv.").replace("conv2.", "conv2.conv.")


def authors(numbers: Golden) -> DilatedEncoder:
    cfg = SeriesConfig(depth=4, hidden=6, dim=8, channels=1, mean=(0.0,), std=(1.0,), kernel_features=0)
    encoder = DilatedEncoder(cfg).double()
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            parameter.copy_(torch.from_numpy(numbers[f"p_{ours(name)}"]))
    return encoder


def steps(encoder: DilatedEncoder, x: Tensor, keep: Tensor | None = None) -> list[Tensor]:
    """Return the output of every block; steps that are not to be kept are 0 after the input map."""
    tokens = encoder.tokens(x)
    return [found.output for found in encoder.encode_tokens(tokens if keep is None else tokens * keep[:, :, None])]


def test_every_block_and_every_gradient_is_that_of_the_authors(golden: Callable[[str], Golden]) -> None:
    numbers = golden("series_encoder")
    encoder, x = authors(numbers), torch.from_numpy(numbers["x"])
    assert x.isnan().any()
    found = steps(encoder, x)
    for number, output in enumerate(found, start=1):
        assert_allclose(output, numbers[f"block_{number}"], RTOL, ATOL)
    assert_allclose(steps(encoder, x, torch.from_numpy(numbers["keep"]))[-1], numbers["out_keep"], RTOL, ATOL)
    last_hidden = torch.ones(x.shape[:2], dtype=torch.bool)
    last_hidden[:, -1] = False
    assert_allclose(steps(encoder, x, last_hidden)[-1], numbers["out_mask_last"], RTOL, ATOL)
    (found[-1] * torch.from_numpy(numbers["cotangent"])).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert_allclose(parameter.grad, numbers[f"grad_{ours(name)}"], RTOL, ATOL, name=name)


def test_the_features_are_maxima_over_the_steps_that_are_there(golden: Callable[[str], Golden]) -> None:
    numbers = golden("series_encoder")
    encoder, x = authors(numbers), torch.from_numpy(numbers["x"])
    features = encoder(x, encoder.taps, feature_maps=True)
    present = ~x.isnan().any(dim=2)
    for tap in encoder.taps:
        rows = torch.from_numpy(numbers[f"block_{tap}"])
        expected = torch.stack([series[there].amax(0) for series, there in zip(rows, present, strict=True)])
        assert_allclose(features.taps[tap], expected, RTOL, ATOL)
        assert_allclose(features.feature_maps[tap].transpose(1, 2), rows, RTOL, ATOL)
    whole = x.nan_to_num()
    assert_allclose(encoder(whole).final, steps(encoder, whole)[-1].amax(1), RTOL, ATOL)
    padded = torch.cat([whole, torch.full((len(x), 9, 1), torch.nan)], dim=1)
    assert_allclose(encoder(padded).final, steps(encoder, padded)[-1][:, : x.shape[1]].amax(1), RTOL, ATOL)


def test_a_cut_computes_the_tap_and_lives_on_in_a_file(tmp_path: Path) -> None:
    data, encoder = waves(6), tiny_encoder()
    values = torch.from_numpy(data.values)
    features = encoder(values, encoder.taps)
    for depth in encoder.taps:
        cut = encoder.cut(depth)
        assert torch.equal(cut(values).final, features.taps[depth])
        assert (cut.dim, cut.taps[-1]) == (encoder.tap_dims[depth], depth)
        MODALITY.save_encoder(cut, tmp_path / str(depth), data, cut.cfg, {})
        assert torch.equal(load_encoder(tmp_path / str(depth))(values).final, features.taps[depth])
    assert torch.equal(load_encoder(tmp_path / "4", 2)(values).final, features.taps[2])
    assert encoder_modality(tmp_path / "4") == "series"
    assert encoder_modality(tmp_path) == ""
    with raises("depth-out-of-range", 9, 4):
        load_encoder(tmp_path / "4", 9)
    (tmp_path / "4" / "model.safetensors").write_bytes(b"")
    with raises("damaged-encoder", "model.safetensors"):
        load_encoder(tmp_path / "4")


def test_the_network_normalizes_what_it_gets() -> None:
    values, encoder = torch.randn(3, 20, 2), tiny_encoder()
    scaled = DilatedEncoder(fit_to_series(encoder.cfg, 20, (5.0, 0.0), (2.0, 1.0)).value)
    scaled.load_state_dict({k: v for k, v in encoder.state_dict().items() if k not in ("mean", "std")}, strict=False)
    mean, std = (torch.tensor(x) for x in ((0.1, -0.2), (1.0, 0.8)))
    torch.testing.assert_close(
        scaled((values - mean) / std * torch.tensor([2.0, 1.0]) + torch.tensor([5.0, 0.0])).final, encoder(values).final
    )


def test_the_depth_follows_from_the_length() -> None:
    assert [depth_for(steps) for steps in (5, 9, 24, 61, 62, 150, 427, 10**6)] == [3, 4, 4, 4, 5, 6, 7, 11]
    assert receptive_field(1) == 5
    x = torch.zeros(1, 61, 1, requires_grad=True)
    cfg = SeriesConfig(depth=4, hidden=3, dim=3, kernel_features=0)
    encoder = DilatedEncoder(fit_to_series(cfg, 61, (0.0,), (1.0,)).value)
    encoder.encode_tokens(encoder.tokens(x))[-1].output[0, 30].sum().backward()
    assert x.grad is not None
    assert int((x.grad != 0).sum()) == receptive_field(4) == 61


@pytest.mark.parametrize(
    ("cfg", "steps", "code", "value"),
    [
        (SeriesConfig(), 4, "series-too-short", 4),
        (SeriesConfig(depth=6), 20, "series-too-short", 32),
        (SeriesConfig(channels=3), 20, "channels-differ", 3),
    ],
)
def test_series_that_do_not_suit_the_network_are_refused(cfg: SeriesConfig, steps: int, code: str, value: int) -> None:
    with raises(code, value):
        fit_to_series(cfg, steps, (0.0,), (1.0,))
    with raises("out-of-range", 0):
        SeriesConfig(depth=0)
