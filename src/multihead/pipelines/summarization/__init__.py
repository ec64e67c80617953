"""Summaries of texts of any length: generated or extracted, with checks of their length, language and facts."""
