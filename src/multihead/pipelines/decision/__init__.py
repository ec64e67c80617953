"""decision: typed questions about an input, with a probability for each possible answer."""
