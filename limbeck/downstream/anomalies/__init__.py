"""Images that are unlike the others: by their vectors, or by the places of their feature maps."""
