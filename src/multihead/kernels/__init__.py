"""How nn's hot operations run fast."""
