"""Evaluate every layer of a backbone on labeled images, and compare students with their teacher."""

from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.evaluator import evaluate
from limbeck.evaluation.results import EvaluationResult, LayerResult

__all__ = ["EvaluateConfig", "EvaluationResult", "LayerResult", "evaluate"]
