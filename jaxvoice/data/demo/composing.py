"""Thousands of sentences for the demo corpus, composed of parts: who, does what, where, when."""

import math
import random

from jaxvoice.errors import DataError

_WHO = """\
The old sailor|A young doctor|My younger sister|The village baker|Our noisy neighbour|An honest judge|The tall gardener
Their new teacher|A clever engineer|The quiet student|Every good pilot|The famous singer|A tired farmer
The careful nurse
His three cousins|Both of the brothers|Several strangers|The proud mayor|A hungry traveller|The choir of the church
Nobody in the office|The youngest child|One of the judges|The man with the yellow hat|A group of tourists
The woman upstairs|My favourite author|The captain of the team|Most of the villagers|The boy next door
Her oldest friend|The shy photographer|An unknown painter|The busy postman|A former soldier"""
_DOES = """\
polished the brass handle|answered the strange question|mixed flour with warm water|carried a heavy box
opened the kitchen window|wrote a long letter|measured the narrow bridge|repaired the broken engine|sold fresh oranges
watched the grey geese|counted seven white horses|followed the muddy path|baked a loaf of brown bread
lost a leather glove
told a joke about penguins|chose the purple umbrella|found an ancient coin|painted the garage door
washed the dirty dishes
heard a sudden noise|pushed the wooden cart|drew a picture of the valley|finished the usual work|bought a pair of shoes
played a tune on the violin|picked beans and garlic|threw the ball over the fence|borrowed a thick book
solved the difficult puzzle|boiled two large eggs|waited for another train|cut the rope with a sharp knife
fed the little chickens|changed the blue curtains|cooked soup with ginger|photographed the full moon
reached the highest tower
caught a huge fish|hid the treasure map|sharpened an axe|sang about the rough ocean|joined the evening class
knocked on the heavy gate|told us the whole truth|checked the oil pressure|chased the fox away|dropped a jar of honey"""
_WHERE = """\
near the harbour|in the garden|behind the old church|on the roof|at the edge of the forest|under the oak tree
beside the river|in front of the museum|across the road|outside the theatre|close to the lighthouse|in the narrow cellar
at the market|on the third floor|by the garden wall|between two hills|on a quiet island|inside the dark cave
along the beach|next to the fountain|in the middle of the square|at the top of the stairs|around the corner
on the way to school|far from the city|in the engine room|over the bridge|below the castle"""
_WHEN = """\
this morning|before the storm|last Thursday|every single day|after a short pause|during the night|once a month
just before noon|without a word|as quickly as possible|for more than an hour|in the summer|at half past four
with a cheerful smile|long ago|while it was raining|on a cold evening in January|again and again|for the first time
because of the weather|as usual|in spite of the fog|with great pleasure|on Tuesday and on Friday|by mistake"""
_PARTS = [[part for line in text.splitlines() for part in line.split("|")] for text in (_WHO, _DOES, _WHERE, _WHEN)]


def compose_sentences(count: int, *, seed: int = 0) -> list[str]:
    """`count` different English sentences in a random order that `seed` decides; the same on every machine.

    Some of them put the time first, behind which a comma makes a pause.

    **Raises:** `DataError` for fewer than one sentence, or more than there are.
    """
    possible = math.prod(len(parts) for parts in _PARTS)
    if not 1 <= count <= possible:
        raise DataError(f"{count} sentences cannot be composed; ask for 1 to {possible}.")
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        subject, verb, place, time = (parts[draw.randrange(len(parts))] for parts in _PARTS)
        if draw.randrange(4) == 0:
            sentence = f"{time[0].upper()}{time[1:]}, {subject[0].lower()}{subject[1:]} {verb} {place}."
        else:
            sentence = f"{subject} {verb} {place} {time}."
        found[sentence] = None
    return list(found)
