"""Preview, test, explain and compare what rules do with events, and have vendors validate the requests."""
