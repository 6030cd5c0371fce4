"""A page to explore images by their embeddings: map, neighbors at every depth, clusters, outliers; one offline file."""
