"""Compile rules to Python functions. Pure: no Kafka, no network."""

from transforms.compile import compile_condition, compile_mapping
from transforms.documents import RuleError
from transforms.model.values import MISSING
from transforms.rules import DROP, Failure, Rules, read_rules

__all__ = ["DROP", "MISSING", "Failure", "RuleError", "Rules", "compile_condition", "compile_mapping", "read_rules"]
