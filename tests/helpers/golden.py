"""Where the authors' numbers are, and their type."""

from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"
Golden = dict[str, np.ndarray]
