"""Language of a text, by its script and its most frequent words. For notices only: it says nothing when unsure."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from ...tokenizers.languages import name_of

MIN_HITS = 3  # frequent words of a language that a text must have
MARGIN = 1.5  # times the hits of the second language
LETTERS = 400  # that decide the script
WORD = re.compile(r"[^\W\d_]+")
SCRIPTS = ("HIRAGANA", "KATAKANA", "CJK", "HANGUL", "CYRILLIC", "ARABIC", "DEVANAGARI", "GREEK", "HEBREW", "THAI",
           "BENGALI", "TAMIL", "TELUGU", "GEORGIAN", "ARMENIAN", "LATIN")  # fmt: skip
JAPANESE = {"HIRAGANA": "CJK", "KATAKANA": "CJK"}
SCRIPT_NAMES = {"CJK": "Chinese or Japanese"}  # where a title of the Unicode name is none
# Their most frequent words. Words that languages share are in all of them, so that they decide nothing.
WORDS = {
    code: frozenset(words.split())
    for code, words in {
        "en": "the of and to is that it was for with are this be by from which have has not were been their they an "
        "we a in on at as",
        "de": "der die das und ist nicht ein eine einen mit von den dem zu auf im für sich als auch wird wurde sind "
        "bei in am an es er sie war wie",
        "fr": "le les des et est une du dans que qui pour sur pas avec ce cette sont au aux par plus il elle été "
        "ont un de la en à a se son sa d l y",
        "es": "el los las y una del que es por con para su se lo como más fue pero sus al está son entre ha de la "
        "en a e",
        "pt": "o os as e um uma do da dos das que não em no na com para por se mais foi como ao são pelo pela é de "
        "a la",
        "it": "il lo gli di che è una un per con del della nel sono non si dei delle al dal più come anche alla i "
        "la in e a da l",
        "nl": "het een van en is dat op te zijn voor met niet aan er ook als bij door werd wordt naar uit maar de in",
        "sv": "och att det som är på en ett av för med den inte till har var om från kan de vid under sig i man",
        "da": "og at det er en på som af for med den ikke til har var et blev der fra kan ved sig de i",
        "pl": "na do się nie jest że to jak przez po od za oraz był dla jego który są ale",
        "cs": "na se je že do ve pro byl jako která jsou podle také ale jeho po za",
        "tr": "ve bir bu için ile da de olarak olan çok daha en gibi ne kadar olduğu sonra göre ise tarafından o",
        "fi": "ja on ei että se oli hän joka ovat myös kun mutta tai kuin ole sen mukaan jälkeen vain",
        "ro": "și în de la cu pe este a o nu din care un că pentru sunt mai au fost prin dar sau al ca",
        "id": "yang dan di dengan untuk dari ini pada adalah dalam itu tidak oleh sebagai akan ke juga telah",
        "ru": "и в не на что с по как это от к из у за для был его но также а или при года",
        "uk": "і в не на що з до як та у за для це від був його але також або при року які",
    }.items()
}


def guess_language(text: str) -> str | None:
    """Return the code of the language that most frequent words belong to; None if it is not clear."""
    counts = Counter(word for word in WORD.findall(text.casefold()))
    hits = sorted(((sum(counts[word] for word in words), code) for code, words in WORDS.items()), reverse=True)
    (best, code), (second, _) = hits[:2]
    return code if best >= MIN_HITS and best >= MARGIN * second else None


def script_of(text: str) -> str | None:
    """Return the script of most letters, such as "Latin"; None for a text without letters."""
    letters = [letter for letter in text[: 8 * LETTERS] if letter.isalpha()][:LETTERS]
    found = Counter(script for letter in letters if (script := letter_script(letter)))
    if not found:
        return None
    script = found.most_common(1)[0][0]
    return SCRIPT_NAMES.get(script, script.capitalize())


def letter_script(letter: str) -> str | None:
    """Return the script of a letter, Chinese and Japanese as one; None for others."""
    name = unicodedata.name(letter, "")
    script = next((script for script in SCRIPTS if name.startswith(script)), None)
    return None if script is None else JAPANESE.get(script, script)


def language_differs(answer: str, text: str) -> str:
    """Return a notice if an answer is in another script or language than its text, as far as it is clear; else ""."""
    scripts = script_of(text), script_of(answer)
    if None not in scripts and scripts[0] != scripts[1]:
        return f"the text is in {scripts[0]} letters, the answer in {scripts[1]}"
    languages = guess_language(text), guess_language(answer)
    if languages[0] is not None and languages[1] is not None and languages[0] != languages[1]:
        return f"the text seems to be in {name_of(languages[0])}, the answer in {name_of(languages[1])}"
    return ""
