"""Functions that generated code calls. They are small and pure, never raise and never change their input."""
