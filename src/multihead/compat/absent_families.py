"""Stems of the class names of families that the reference has and this library does not: images, sound, video."""

STEMS: tuple[str, ...] = ()
FOLDERS: frozenset[str] = frozenset()  # of those families
