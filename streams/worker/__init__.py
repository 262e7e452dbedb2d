"""Worker processes: Faust apps, health, lag, and the guard against failing records."""
