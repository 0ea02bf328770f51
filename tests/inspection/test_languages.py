"""Which texts are not in English."""

import pytest

from bort.inspection.languages import ENGLISH, UNKNOWN, find_languages, language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where is my parcel? I ordered it last week.", ENGLISH),
        ("Great product", ENGLISH),
        ("over and over again .", ENGLISH),
        ("let 's see , a haunted house , what 's next ... ghost blimp ?", ENGLISH),
        ("Levin 's attorney , Bo Hitchcock , declined to comment Friday .", ENGLISH),
        ("Go back to Canada", ENGLISH),
        ("OK", ENGLISH),
        ("12345 !!!", ENGLISH),
        ("", ENGLISH),
        ("😂😂😂", ENGLISH),
        ("The café's naïve résumé was over the top", ENGLISH),
        ("Wo ist mein Paket? Ich habe es letzte Woche bestellt.", "German"),
        ("Où est mon colis ? Je l'ai commandé la semaine dernière.", "French"),
        ("¿Dónde está mi paquete? Lo pedí la semana pasada y no ha llegado.", "Spanish"),
        ("Dov'è il mio pacco? Non è ancora arrivato.", "Italian"),
        ("Waar is mijn pakket? Ik heb het vorige week besteld.", "Dutch"),
        ("Gdzie jest moja paczka? Nie przyszła jeszcze.", "Polish"),
        ("Где моя посылка?", "Cyrillic script"),
        ("我的包裹在哪里", "Han script"),
        ("私の荷物はどこですか", "Japanese script"),
        ("أين طردي؟", "Arabic script"),
        ("Tôi không biết vì sao gói hàng của tôi chưa đến", "Vietnamese"),
        ("Šķūnis žēlīgi čūksts", UNKNOWN),
    ],
)
def test_languages(text, language):
    assert language_of(text) == language


def test_counts_with_the_first_place_of_each():
    found = find_languages(
        [("Hello there", "a:1"), ("Где моя посылка?", "a:2"), ("Привет", "a:3"), ("Ich bin es", "a:4")]
    )
    assert (found.read, found.count) == (4, 3)
    assert found.others == {"Cyrillic script": 2, "German": 1}
    assert found.places == {"Cyrillic script": "a:2", "German": "a:4"}
