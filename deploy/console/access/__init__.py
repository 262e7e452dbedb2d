"""Who may use the console, and how its requests are protected."""
