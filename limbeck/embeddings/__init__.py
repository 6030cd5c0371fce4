"""Embeddings of images: any network, any source, every depth in one pass; resumable, in several processes, cached."""
