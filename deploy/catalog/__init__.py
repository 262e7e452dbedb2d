"""Compare the events that come with the rules that read them and the plans that describe them."""
