"""Rules to functions: pure, without Kafka and network."""

from transforms.errors import RuleError
from transforms.mapping import compile_condition, compile_mapping
from transforms.rules import DROP, Failure, Rules, read_rules
from transforms.tree import MISSING

__all__ = ["DROP", "MISSING", "Failure", "RuleError", "Rules", "compile_condition", "compile_mapping", "read_rules"]
