"""Detects texts that are not in English by their script and, in Latin script, by function words of other languages.

Detectors with their own models (lingua, fastText) take 100 MB and more; those without are unmaintained or unreliable on
texts of three words. The question here is narrower: can an English model read the text at all? So a text counts as
English unless there is evidence against it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

ENGLISH, UNKNOWN = "English", "another language in Latin script"
_LEAST_WORDS = 2
"""Function words of a language that a text must contain to count as that language."""
_ACCENTED_SHARE = 0.3
"""Share of words with letters that English lacks from which a text counts as an unlisted language."""
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_FUNCTION_WORDS = {
    ENGLISH: """a about after all an and any are as at be been but by can could did do does for from had has have he
        her his how i if in into is it its me more my no not of on or our out she so some than that the their them
        then there these they this to up was we were what when where which who why will with would you your it's i'm
        don't""",
    "German": """aber als auch auf aus bei bitte dass dem den der des dir doch durch ein eine einem einen einer eines
        er es für haben hat ich ihr ihre im ist ja kann kein keine mein meine mich mir mit nach nicht noch nur oder
        schon sein sich sie sind über um und uns vom von vor wann warum wenn werden wie wir wird wo wurde zu zum
        zur""",
    "French": """au aux avec c'est ce ces cette comme d'un d'une dans des du elle elles est et été être il ils j'ai je
        jour la le les leur mais mes mon n'est ne nous ou où pas plus pour pourquoi qu'il quand que qui sa se ses son
        sont sur une vous votre l'on à ça très""",
    "Spanish": """al como con cuando de del dónde el ella en eres es esta este está están esto fue hay la las lo los
        mi más muy no nos para pero por porque que qué se ser si sin sobre son su sus también tiene todo un una usted
        ya yo cuándo cómo""",
    "Italian": """al alla anche che chi ci come con cosa da dal dei del della delle di dove è gli ha ho il in io l'ha
        la le lei lo ma mi mia mio ne nel nella nessun non per perché più quando quello questa questo se sei si sono
        su sul tra un una uno""",
    "Portuguese": """ao aos as com como da das de do dos ela ele em era essa esse está eu foi há isso já mais mas meu
        minha muito na nas não nem no nos onde os ou para pela pelo por porque quando que quem se sem ser seu sua são
        também tem um uma você à""",
    "Dutch": """aan als bij dan dat de deze die dit door een en er geen heb heeft het hij hoe ik in is je jij kan met
        mij mijn naar niet nog om ook op te tot uit uw voor waar waarom wanneer was wat we wel wij worden wordt ze
        zich zijn""",
    "Swedish": """att av de den det du där efter ej eller en ett från för förfrågan ha han har hon hur inte jag kan
        kommer med mig min mitt måste någon när och om på sig ska som till upp utan vad var varför vi vid är över""",
    "Danish or Norwegian": """af at av blev ble de den der det du eller en er et etter efter for fra frem ha han har
        hun hvad hva hvis hvor hvorfor ikke jeg kan kunne med mig meg min mit mitt mod må nei når og om op opp på sig
        seg skal som til ved var vi vil være""",
    "Polish": """ale bez bo być co czy dla do gdy gdzie ich jak jako jest jestem jeszcze już kiedy który która które
        lub ma mam mi mnie moje mój można na nie od oraz po pod przez przy się są tak tego to tylko tym we wszystko za
        ze że""",
    "Czech or Slovak": """aby ako ale až bol být bylo byl co do chyba jak jako je jen jsem jsou kde když ktorý který
        která které ma má mi mohu na není nebo nelze od po pod pre pro proč sa se si sme som sú ta tak to tu ve za ze
        že""",
    "Turkish": """ama ancak bana bir biri bu çok çünkü da daha de değil diye en gibi hala hangi hata her için ile ise
        ki mi mı nasıl ne neden nerede olan olarak oldu ve veya var ya yok zaman şu""",
    "Indonesian or Malay": """ada akan anda apa atau bagaimana bahwa belum bisa boleh dalam dan dapat dari dengan di
        dia hari harus ini itu jika juga kami karena ke kepada kita lagi mengapa mereka oleh pada saya sebagai sudah
        telah tetapi tidak untuk yang""",
    "Romanian": """acest această ai al ale am ar are au ca care ce cu cum când dar de decât din după este eu fi fost
        fără în îmi la mai mea meu mi nu pe pentru poate prin sa sau se sunt să și ți un unde unei unui""",
    "Finnish": """että ei eikä en hän ja jo joka jos kanssa kuin kun minun miksi missä mitä mutta myös niin ole olen
        olla on oli ovat se sen siitä tai tämä tämän vain voi vielä""",
    "Hungarian": """az azt csak de egy el és ez ezt fel ha hogy hol hogyan igen itt kell ki lehet már meg mert mi
        miért mikor mint nem nincs ne sem számára után vagy volt""",
    "Vietnamese": """bạn bị các cho có của cũng đã đang để đến được hay không khi là làm lại mà một này người như
        những nhưng ở rất sẽ tại thì tôi trong từ và về với""",
}
_WORDS = {name: frozenset(words.split()) for name, words in _FUNCTION_WORDS.items()}
_OWN_WORDS = {name: words - _WORDS[ENGLISH] for name, words in _WORDS.items() if name != ENGLISH}
"""Function words of each other language, without those that English has too."""


@dataclass(frozen=True)
class Languages:
    """The languages of texts.

    Attributes:
        read: How many texts were checked.
        others: How many are not in English, by language or script, the most frequent first.
        places: Location of the first text of each.
    """

    read: int
    others: dict[str, int]
    places: dict[str, str]

    @property
    def count(self) -> int:
        """How many texts are not in English."""
        return sum(self.others.values())


def find_languages(texts: Iterable[tuple[str, str]]) -> Languages:
    """Count the texts that are not in English.

    Args:
        texts: Texts, each with its location for messages.
    """
    read, others, places = 0, Counter[str](), dict[str, str]()
    for text, place in texts:
        read += 1
        if (name := language_of(text)) != ENGLISH:
            others[name] += 1
            places.setdefault(name, place)
    return Languages(read, dict(others.most_common()), {name: places[name] for name, _ in others.most_common()})


def language_of(text: str) -> str:
    """The language of a text in Latin script, or the script of another; `ENGLISH` without evidence against it.

    Example:
        >>> language_of("Where is my parcel?"), language_of("Wo ist mein Paket?"), language_of("Где моя посылка?")
        ('English', 'German', 'Cyrillic script')
    """
    if not text.isascii():
        scripts = Counter(_script(character) for character in text if character.isalpha())
        if scripts and (most := scripts.most_common(1)[0][0]) != "Latin":
            return f"{most} script"
    words = [word.replace("’", "'") for word in _WORD.findall(text.casefold())]
    found = {name: sum(word in own for word in words) for name, own in _OWN_WORDS.items()}
    best = max(found, key=lambda name: found[name])
    english = [word for word in words if word in _WORDS[ENGLISH]]
    if found[best] >= _LEAST_WORDS and found[best] > sum(word not in _WORDS[best] for word in english):
        return best
    accented = sum(not word.isascii() for word in words)
    foreign = accented >= max(_LEAST_WORDS, _ACCENTED_SHARE * len(words)) and accented > len(english)
    return UNKNOWN if foreign else ENGLISH


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """The script of a letter: the first word of its name in Unicode."""
    name = unicodedata.name(letter, "unknown").partition(" ")[0].capitalize()
    return {"Cjk": "Han", "Hiragana": "Japanese", "Katakana": "Japanese"}.get(name, name)
