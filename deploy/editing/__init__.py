"""Change the files of a configuration folder: try a draft, then save it or propose it as a branch."""
