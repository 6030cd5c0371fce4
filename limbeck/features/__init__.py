"""What a network says of the images of a store: the images that it is shown, and one pass over them."""
