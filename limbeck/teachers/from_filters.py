"""The teacher that needs no weights: patch-filter features, fitted to the images of the run."""

from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.data.store.store import Store
from limbeck.features.analytic import VERSION, AnalyticFeatures, analytic_features
from limbeck.features.fitted_patch_filters import VERSION as FILTERS_VERSION
from limbeck.models.pretrained import StatedPreprocessing
from limbeck.teachers.config import PATCH_FILTERS
from limbeck.teachers.frozen import TeacherFeatures, TeacherSource


class AnalyticTeacher(nn.Module):
    """Analytic features in the form of a teacher's network, without feature maps."""

    def __init__(self, features: AnalyticFeatures) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor, feature_map: bool) -> TeacherFeatures:
        """Map [B 3 S S] to [B D]."""
        return TeacherFeatures(self.features(images))


def from_filters(store: Store | None) -> TeacherSource:
    """Return the features fitted to the images of `store`; without a store, raise UserError."""
    if store is None:
        raise UserError(
            f"'{PATCH_FILTERS}' are fitted to the images of a run and are no network by themselves: name them as "
            "--teacher of `limbeck distill`",
            code="no-images-to-fit",
        )
    features = analytic_features(store, description="patch filters")
    how = features.filters.preprocessing
    identity = {"network": PATCH_FILTERS, "version": [VERSION, FILTERS_VERSION], "store": store.digest}
    stated = StatedPreprocessing(how.image_size, how.mean, how.std, "bilinear")
    return TeacherSource(AnalyticTeacher(features), stated, "", identity, fitted=True)
