"""A page to explore images by their embeddings: map, neighbors at every depth, clusters, outliers; one offline file."""

from limbeck.explorer.build import ExploreConfig, Explorer, write_explorer

__all__ = ["ExploreConfig", "Explorer", "write_explorer"]
