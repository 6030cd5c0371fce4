"""Send a network to the Hugging Face hub, with a card: exactly the files that `--to` writes into a folder."""
