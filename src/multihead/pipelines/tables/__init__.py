"""Questions about tables as queries: typed cells, a small query form and its execution, reading of questions."""
