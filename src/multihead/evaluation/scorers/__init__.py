"""One file a group of tasks: how rows are read, and how answers are scored."""
