"""YAML files, read with the line and column of every value, and the errors that point into them."""

from transforms.documents.document import Document
from transforms.documents.errors import RuleError
from transforms.documents.location import Location

__all__ = ["Document", "Location", "RuleError"]
