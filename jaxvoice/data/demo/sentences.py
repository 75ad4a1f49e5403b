"""Sentences of the demo corpus: one hundred with every English phoneme, and sentences composed of parts."""

import math
import random

from jaxvoice.errors import DataError

SENTENCES = tuple(
    """\
The harbour lights went out shortly before the storm arrived.
Seven grey geese crossed the valley without making a sound.
Please leave the heavy boxes near the kitchen door.
A thick layer of frost covered both windows this morning.
Nobody expected the small engine to start so quickly.
We measured the length of the bridge with a piece of string.
Her younger brother usually chooses the yellow umbrella.
The baker shapes each loaf by hand and dusts it with flour.
Under the oak tree, a fox was watching the chickens.
They voted to paint the village hall a deep shade of blue.
If the path is muddy, take the road around the lake.
The judge asked for a short pause and a glass of water.
Fresh ginger and orange peel give the soup its flavour.
Our train was late because a cow stood on the rails.
The children built a tower from cups, spoons and paper.
An old map showed where the river had once been.
Could you turn the radio down while I answer the telephone?
The museum keeps a huge collection of wooden toys.
Every Thursday the market fills with noise and colour.
He polished the brass handle until it shone like gold.
A sudden gust of wind pushed the boat toward the shore.
The teacher wrote five questions on the board.
It took them a whole month to repair the church roof.
The soft voice on the tape belonged to a sailor.
Two owls called to each other across the dark field.
I would rather walk than wait for another bus.
The garden smelled of roses, thyme and wet earth.
She threw the ball high above the roof of the garage.
Both engines were checked twice before the long flight.
The doctor told him to rest and to drink warm tea.
Strong coffee keeps the night shift awake.
A narrow staircase led down into the cellar.
The puppy chewed a hole in my favourite leather shoe.
Snow fell gently on the empty playground.
You should never pour cold water on burning oil.
The choir sang three songs and then went home.
Large waves crashed against the foot of the lighthouse.
Our neighbour grows beans, garlic and purple cabbage.
The pilot adjusted the height and turned toward the north.
A pleasant smell of toast drifted through the house.
The clock in the hall strikes once every quarter of an hour.
Ask the guide which of these caves is the deepest.
The painter mixed a little black into the white.
Few people know how to whistle that tune.
The wheel squeaks whenever we turn to the left.
Put the change in the jar beside the toaster.
Thunder rolled over the hills for most of the night.
The lawyer carried a bundle of papers under one arm.
He could not remember where he had buried the treasure.
A ginger cat slept on the edge of the sofa.
The weather will be dry and sunny until the weekend.
Their cottage has a thatched roof and a red front door.
The mouse vanished behind a sack of barley.
We heard a strange buzzing noise inside the wall.
Bring a warm jacket, since the evening may be chilly.
The usual route is closed, so we must go through the forest.
A dozen fishing boats were moored along the quay.
The chef sharpens her knives at the start of the day.
My uncle repairs watches in a shop by the station.
The moon rose slowly over the quiet town.
Which of the two roads leads to the waterfall?
A curious goat followed us all the way up the hill.
The orchestra tuned its instruments behind the curtain.
Please speak clearly and hold the button while you talk.
The carpenter chose a long, smooth piece of beech.
Good bread needs only flour, water, salt and patience.
The bus driver smiled and waved at the cyclist.
A cloud of dust rose from the dry riverbed.
They found a silver coin between the stones.
The new teacher enjoys chess and mountain climbing.
It is much easier to read with a brighter lamp.
The horse refused to jump over the lowest fence.
I joined the queue and waited for a ticket.
The kettle began to whistle before the toast was done.
A thin blue thread held the pages together.
The farmer thanked them for pulling out the tractor.
Her voyage around the world lasted almost two years.
The paint was still wet when they moved the chairs.
He measures the rainfall with a simple glass tube.
A flock of noisy starlings settled on the wire.
The library lends out books, films and garden tools.
We shared a bowl of cherries on the back porch.
The engineer drew a rough sketch of the machine.
Watch out for the loose step at the bottom.
The bell rang, and the hungry pupils rushed outside.
A voice from the loudspeaker announced the next departure.
The tailor joined both halves with a strong seam.
Nine of the ten lamps were already broken.
The visitor praised the view from the upper balcony.
You can hear the ocean from the third floor.
A spoonful of honey makes the medicine easier to swallow.
The judges measured every pumpkin and chose the heaviest.
The engine coughed twice, then roared into life.
She brushed the snow off her coat and came inside.
Those thick clouds usually bring rain by noon.
The boy cautiously touched the rough skin of the toad.
A yacht with white sails passed the southern beacon.
The young woman paid for the cheese and left the shop.
Both of us thought that the other had locked the door.
The last guests left long after midnight.
""".splitlines()
)

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
    """Compose `count` different English sentences at random. The result depends on `seed` only.

    A quarter of them begin with the time, followed by a comma, which is spoken as a pause.

    **Raises:** `DataError` for fewer than one sentence, or more than the number of possible sentences.
    """
    possible = math.prod(len(parts) for parts in _PARTS)
    if not 1 <= count <= possible:
        raise DataError(f"The number of sentences is {count}; it should be from 1 to {possible}.")
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
