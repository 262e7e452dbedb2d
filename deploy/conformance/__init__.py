"""What every forwarder has to hold, Turnout's own and other people's: `turnout conformance`, and a pytest plug-in."""
