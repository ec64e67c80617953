"""Fast implementations of nn's hot operations: C++, Triton and torch backends."""
