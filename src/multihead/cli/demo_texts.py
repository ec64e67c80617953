"""Texts for the demo. The article condenses NASA's own mission pages, which are in the public domain."""

REVIEWS = (
    "An absolute joy from the first scene to the last; I would watch it again tomorrow.",
    "The plot makes no sense and the jokes fall flat. What a waste of an evening.",
    "Warm, funny and beautifully acted.",
    "I wanted to like it, but it is slow, dull and far too long.",
)
SENTENCES = (
    "The children were playing happily in the garden.",
    "Could you tell me where the train station is?",
    "The new museum opens on Saturday and entry is free for everyone under eighteen.",
)
ARTICLE = (
    "Apollo 11 was the first mission to land people on the Moon. It launched from Kennedy Space Center in Florida on "
    "July 16, 1969, carrying commander Neil Armstrong, command module pilot Michael Collins and lunar module pilot "
    "Buzz Aldrin. Four days later Armstrong and Aldrin landed the lunar module Eagle in the Sea of Tranquility, while "
    "Collins stayed in orbit aboard Columbia. The two astronauts spent about two and a half hours outside, set up "
    "experiments and collected 21.5 kilograms of rock and soil. The crew returned safely to Earth and splashed down in "
    "the Pacific Ocean on July 24."
)
QUESTIONS = ("Who stayed in orbit?", "When did Apollo 11 launch?")
REQUEST = "Explain in three sentences why the sky is blue."
SOURCE = "How do I reset my password?"
CANDIDATES = (
    "I forgot my login and need a new one.",
    "Changing the secret word of your account",
    "The weather will be sunny tomorrow.",
    "Our office is closed on Sundays.",
)
