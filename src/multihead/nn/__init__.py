"""The layers: torch and nothing else, no family by name."""
