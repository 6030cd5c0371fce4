"""Evaluate every layer of a backbone on labeled images, and compare students with their teacher."""

from limbeck.evaluate.config import EvaluateConfig
from limbeck.evaluate.evaluator import evaluate
from limbeck.evaluate.results import EvaluationResult, LayerResult

__all__ = ["EvaluateConfig", "EvaluationResult", "LayerResult", "evaluate"]
