"""Installing, running and watching Turnout, with real parts: run by `make operations`."""
