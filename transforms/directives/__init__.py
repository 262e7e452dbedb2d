"""The directives of the language, one function each; importing this package defines them all."""

from transforms.directives import basic, calls, casting, choosing, lists, objects, texts
from transforms.directives.definition import DIRECTIVES

__all__ = ["DIRECTIVES", "basic", "calls", "casting", "choosing", "lists", "objects", "texts"]
