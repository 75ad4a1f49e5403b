"""What the demo corpus says: one hundred sentences written for it, with every English phoneme in varied company."""

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
