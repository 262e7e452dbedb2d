"""The strict base class of all settings."""

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Base class of settings and of configuration files.

    Unknown keys are rejected, values are immutable, and errors never quote a value. The docstring below each field is
    its description in the documentation and in the schema for editors.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)
