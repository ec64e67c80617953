"""The command line: thin words around the rooms below."""
