"""How bort-nano is made: texts, teacher, student, training, and its measurements on development data."""
