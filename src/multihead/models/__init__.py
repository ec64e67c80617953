"""One file a family: its numbers, its build, its keys, its heads."""
