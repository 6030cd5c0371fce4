"""Embeddings of images: any network, any source, every depth in one pass; resumable, in several processes, cached."""

from limbeck.embeddings.encoders import FrozenEncoder, load_encoder
from limbeck.embeddings.source import EmbedConfig, Embedded, embed_source

__all__ = ["EmbedConfig", "Embedded", "FrozenEncoder", "embed_source", "load_encoder"]
