"""Text generation for all interfaces: request -> prompt ids -> engine -> deltas of text."""
