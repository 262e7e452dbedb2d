"""What generated code calls: small pure functions over JSON values that never raise and never change their input."""
