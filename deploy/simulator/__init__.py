"""A small local server that stands for the vendors: takes any request, keeps the last ones, and fails as it is told."""
