"""Keyword terms of a text: made here, so that the same query finds the same memories on every engine.

Lower case, accents folded, English words stemmed, scripts without blanks between words as overlapping pairs. A term
holds letters, digits and marks only: an engine's full text needs to split at blanks and nothing else, and
punctuation of a query is never syntax.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

from powermem_cli.spellings import other_spellings

LONGEST_TERM: Final = 64  # characters; the rest of a longer word is cut
CACHED_WORDS: Final = 50_000  # about 10 MB

# Thai, Lao, Myanmar, Khmer, kana, bopomofo, Hangul, Han (with its extensions).
_PAIRED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
# Combining marks stay in their word: without them Hindi or Arabic falls to pieces.
_MARKS = "\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0903\u093a-\u094f\u0951-\u0963\u0981-\u0dff"
# Punctuation and signs within those ranges, as the Hebrew hyphen and the katakana middle dot: they part words, too.
_SIGNS = re.compile(
    "[\u05be\u05c0\u05c3\u05c6\u09f2\u09f3\u09fa\u09fb\u09fd\u0a76\u0af0\u0af1\u0b70\u0bf3-\u0bfa\u0c77\u0c7f\u0c84\u0d4f"
    "\u0d79\u0df4\u0e3f\u0e4f\u0e5a\u0e5b\u104a-\u104f\u109e\u109f\u17d4-\u17d6\u17d8-\u17db\u309b\u309c\u30a0\u30fb]"
)
_WORDS = re.compile(rf"[{_PAIRED}]+|(?:[^\W_{_PAIRED}]|[{_MARKS}])+(?:['’](?:[^\W_{_PAIRED}]|[{_MARKS}])+)*")
_ASCII_WORDS = re.compile(r"[a-z0-9]+(?:'[a-z0-9]+)*")
_PAIRED_START = re.compile(f"[{_PAIRED}]")
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670]")  # those that readers leave out when they type

STOP_WORDS: Final = frozenset(
    """
    a about after again all also am an and any are aren't as at be been before being between both but by can can't
    could couldn't did didn't do does doesn't doing don't down during each ever few for from further get gets
    getting had hadn't has hasn't have haven't having he he'd he'll he's her here hers herself him himself his how
    how's i i'd i'll i'm i've if in into is isn't it it's its itself just let's like me more most my myself no nor
    not now of off on once only or other our ours ourselves out over own please same she she'd she'll she's should
    shouldn't so some such tell than that that's the their theirs them themselves then there there's these they
    they'd they'll they're they've this those through to too under until up us use used very was wasn't we we'd
    we'll we're we've were weren't what what's when when's where where's which while who who's whom whose why why's
    will with won't would wouldn't you you'd you'll you're you've your yours yourself yourselves
    """.split()  # noqa: SIM905 - a list of 200 literals reads worse
)
"""Words that say how an English question is asked, not what it is about."""


_OTHER_STOP_WORDS: Final = tuple(
    frozenset(words.split())
    for words in """
    aber alle als also am an auch auf aus bei beim bin bis da damit dann das dass dein deine dem den der des die
    dir doch du ein eine einem einen einer eines er es euch euer für gegen gibt hab habe haben hat hatte hatten
    hier hinter ich ihm ihn ihr ihre im in ins ist ja kann können lange man mein meine meinem meinen meiner mich
    mir mit nach noch nur ob oder schon sein seine sich sie sind so um und uns unser unsere unserem unseren
    unter vom von vor wann war waren warum was welche welchem welchen welcher welches wem wen wenn wer werden
    wie wieder wieso wir wird wo woher wohin womit woran worauf wurde zu zum zur über

    a al algo ante como con cual cuales cuando cuanta cuanto cuantos cuál cuáles cuándo cuánta cuánto cuántos
    cómo de del desde donde dónde el ella ellos en era es esa ese eso esta estaba este esto está están fue ha
    han hay he la las le les lo los me mi mis muy más ni nos nuestra nuestro o para pero por porque que quien
    quién qué se ser si sobre son soy su sus también te tengo tiene tu tus un una uno unos va y ya yo él

    a ai as au aux avec avons c ce ces cet cette combien comment d dans de depuis des dois du elle elles en est
    et eu il ils j je l la le les leur leurs lui m ma mais me mes moi mon n nos notre nous on ont ou où par plus
    pour pourquoi qu quand que quel quelle quelles quels qui quoi s sa se ses si son sont sur t ta te tes toi
    ton tu un une va vos votre vous y à être

    a ad al alla anche che chi ci come con cosa cui da dal dei del della di dove e ed gli ha hai ho i il in io
    la le lei lo loro lui ma mi mia mio nel nella noi o per perché più quale quali quando quanti quanto questa
    questo qui si sono su sua suo ti tu un una uno è

    a ao aos as com como da das de do dos e ela ele em era essa esse esta este eu foi há isso já lhe mais mas me
    meu minha na nas no nos não o onde os ou para por porque qual quando quanto que quem se ser seu sua são
    também te tem tu um uma você é

    aan als bij dat de deze die dit een en er ge had heb hebben heeft het hij hoe hoeveel ik in is je kan maar
    me met mijn naar nog of om ons onze op over te tot uit van voor waar waarom wanneer was wat we welke werd
    wie wij zal ze zich zij zijn zou
    """.split("\n\n")  # noqa: SIM905 - as above
)
"""The same of German, Spanish, French, Italian, Portuguese and Dutch questions, without what negates."""


class _Terms(dict[str, str]):
    """Word → its terms with blanks between, worked out once. Emptied when full: a text's words come again at once."""

    def __init__(self) -> None:
        super().__init__()
        self._stemmer: Any = None
        self._lock = threading.Lock()  # a stemmer holds its word; a store's thread and the event loop both ask

    def __missing__(self, word: str) -> str:
        with self._lock:
            if len(self) >= CACHED_WORDS:
                self.clear()
            terms = self._terms(word)
            self[word] = terms
        return terms

    def _terms(self, word: str) -> str:
        if _PAIRED_START.match(word):
            return word if len(word) == 1 else " ".join(word[i : i + 2] for i in range(len(word) - 1))
        if not word.isascii():
            word = _ACCENTS.sub("", unicodedata.normalize("NFD", word))
        word = word.replace("’", "'")[:LONGEST_TERM]
        stem = word if word.isdigit() or len(word) < 3 else self._stem(word)
        return stem.replace("'", "")

    def _stem(self, word: str) -> str:
        if self._stemmer is None:
            import Stemmer  # noqa: PLC0415 - only a text to index or a query is worth it

            self._stemmer = Stemmer.Stemmer("english")
        return str(self._stemmer.stemWord(word))


_terms = _Terms()


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, in order; runs of an unspaced script are one word."""
    if text.isascii():
        return _ASCII_WORDS.findall(text.lower())
    return _WORDS.findall(_SIGNS.sub(" ", unicodedata.normalize("NFKC", text).casefold()))


def terms_of(text: str) -> list[str]:
    """The terms of a text in order, with repeats."""
    terms = list(map(_terms.__getitem__, words_of(text)))
    return terms if text.isascii() else " ".join(terms).split()


def distinct_terms(text: str) -> str:
    """The terms of a text, each once, with blanks between: what a full-text index is given."""
    return " ".join(dict.fromkeys(terms_of(text)))


def query_terms(query: str) -> list[str]:
    """The terms of a query: each once, without stop words unless there is nothing else."""
    return _distinct(_wanted(words_of(query)))


def search_terms(query: str) -> list[str]:
    """The terms to look for: those of the query, and those that its numbers, days and times may be written with."""
    words = words_of(query)
    return _distinct([*_wanted(words), *other_spellings(query, words)])


def _distinct(words: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(" ".join(_terms[word] for word in words).split()))


def _wanted(words: list[str]) -> list[str]:
    stop_words = _stop_words_of(words)
    return [word for word in words if word.replace("’", "'") not in stop_words] or words


def _stop_words_of(words: Sequence[str]) -> frozenset[str]:
    """Those of the language that a query is most likely in: `die` is no article in an English one."""
    others = [sum(word in stop_words for word in words) for stop_words in _OTHER_STOP_WORDS]
    most = max(others)
    if most < 2 or most <= sum(word.replace("’", "'") in STOP_WORDS for word in words):
        return STOP_WORDS
    return _OTHER_STOP_WORDS[others.index(most)]
