"""The encoder of series as a transformer for scikit-learn, aeon and sktime."""

from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from limbeck.core.devices import choose_device
from limbeck.core.errors import UserError
from limbeck.data.loader import fitting_batch
from limbeck.features.extract import extract
from limbeck.methods.config.masked import MaskedConfig
from limbeck.series.config import FEWEST_BLOCKS, SeriesConfig, fit_to_series
from limbeck.series.data import SeriesData
from limbeck.series.encoder_io import load_encoder
from limbeck.series.join import fit_join
from limbeck.series.loader import SeriesLoader
from limbeck.series.network import DilatedEncoder
from limbeck.series.views import SeriesView
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.step import StepRunner

SHORTEST = 2 ** (FEWEST_BLOCKS - 1) + 1  # steps of a series; missing ones follow a shorter one
RATE_BATCH = 256  # series that a learning rate of `OptimConfig` is for


class Encoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Map series to features of an encoder that `fit` trains without labels, by masked self-distillation.

    Series are [N T], or [N C T] as aeon and sktime have them; NaN is missing, also at the end of short ones.

    Args:
        run: folder of a run of `limbeck pretrain`, whose encoder is used as it is; `fit` then trains nothing.
        steps: optimizer steps.
        batch_size: series per step.
        lr: peak of the learning rate of AdamW.
        weight_decay: of AdamW.
        blocks: of the network; None: as many as see the whole series.
        layer: block whose features are returned, from 1; None: the last one.
        hidden: width of every block but the last.
        dim: width of the last block.
        kernel_features: features of fixed kernels that follow those of the block; 0: none.
        random_state: of weights, order and hidden steps.
        device: "auto" (a GPU if there is one), "cpu", "cuda" ...

    Attributes:
        encoder_: the network, cut at `layer`.
        n_features_in_: steps of series [N T], or channels of series [N C T].
    """

    def __init__(
        self,
        run: str | None = None,
        *,
        steps: int = 200,
        batch_size: int = 8,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        blocks: int | None = None,
        layer: int | None = None,
        hidden: int = 64,
        dim: int = 320,
        kernel_features: int = 2016,
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        self.run = run
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.blocks = blocks
        self.layer = layer
        self.hidden = hidden
        self.dim = dim
        self.kernel_features = kernel_features
        self.random_state = random_state
        self.device = device

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Train the encoder on series; labels are ignored.

        Raises:
            UserError: as `SeriesData`, `fit_to_series` and `load_encoder`.
        """
        data = SeriesData(self._series(X, reset=True))
        if self.run is None:
            encoder = self._trained(data)
        else:
            encoder = load_encoder(self.run)
            encoder.check_channels(data.channels)
        self.encoder_ = (encoder if self.layer is None else encoder.cut(self.layer)).eval()
        self._n_features_out = self.encoder_.dim
        return self

    def transform(self, X: ArrayLike) -> Float[np.ndarray, "N D"]:
        """Return the features of series, float32."""
        check_is_fitted(self)
        series = self._series(X, reset=False)
        last, device = self.encoder_.taps[-1], choose_device(self.device)
        found = extract(
            self.encoder_,
            lambda rows: torch.from_numpy(series[rows]).to(device),
            np.arange(len(series)),
            taps=[last],
            device=device,
        )
        features: NDArray[np.float32] = found[last].cpu().numpy()
        return features

    def _series(self, X: ArrayLike, *, reset: bool) -> Float[np.ndarray, "N T C"]:
        """Return input that scikit-learn accepts as [N T C], with missing steps at the end where it is very short."""
        found = validate_data(self, X, reset=reset, dtype=np.float32, allow_nd=True, ensure_all_finite="allow-nan")
        series = found[:, :, None] if found.ndim == 2 else found.transpose(0, 2, 1)
        if series.shape[1] < 2:
            raise UserError(
                f"a series has at least 2 steps, and these have {series.shape[1]} (n_features = {found.shape[1]})",
                code="series-too-short",
            )
        lacking = max(0, SHORTEST - series.shape[1])
        padded: NDArray[np.float32] = np.pad(series, ((0, 0), (0, lacking), (0, 0)), constant_values=np.nan)
        return padded

    def _trained(self, data: SeriesData) -> DilatedEncoder:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        named = SeriesConfig(depth=self.blocks, hidden=self.hidden, dim=self.dim, kernel_features=self.kernel_features)
        cfg = fit_to_series(named, data.steps, *data.normalization()).value
        method_cfg = MaskedConfig()
        batch = fitting_batch(self.batch_size, len(data), 1, 1)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            encoder = DilatedEncoder(replace(cfg, kernel_features=0))
            method = method_cfg.build(encoder)
            accelerator: Any = choose_device(self.device).type
            training = TrainConfig(
                epochs=self.steps / (len(data) // batch), batch_size=batch, seed=seed, accelerator=accelerator
            )
            optim = OptimConfig(lr=self.lr * RATE_BATCH / batch, weight_decay=self.weight_decay)
            views = (SeriesView(spans=method_cfg.span_mask),)
            runner = StepRunner(method, data, views, training, optim, loader=SeriesLoader)
            batches = runner.loader.batches(0, runner.total_steps)
            for step in range(runner.total_steps):
                runner.train_step(batches, step, measure_norm=False)
            found = fit_join(data, cfg)(encoder) if cfg.kernel_features else encoder
        return found.to("cpu")

    def __sklearn_tags__(self) -> Tags:
        """Declare that missing values are allowed, series have two or three axes, and features are float32."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        tags.non_deterministic = False
        return tags
