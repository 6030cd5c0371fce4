"""Judges every layer of a backbone on labelled images, and students beside their teacher."""

from limbeck.evaluate.config import EvaluateConfig
from limbeck.evaluate.evaluator import evaluate
from limbeck.evaluate.results import Result, Row

__all__ = ["EvaluateConfig", "Result", "Row", "evaluate"]
