"""Write the documentation pages that are generated from the code."""
