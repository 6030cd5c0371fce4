"""Export a trained encoder, whole or cut at any depth, for timm, ONNX or PyTorch, in full or reduced precision.

Every export is read back and compared with the network in memory before it appears under its name.
"""

from limbeck.exports.networks import FoldedPreprocessing
from limbeck.exports.proof import Proof
from limbeck.exports.result import ExportResult, Format, Precision
from limbeck.exports.write import export

__all__ = ["ExportResult", "FoldedPreprocessing", "Format", "Precision", "Proof", "export"]
