"""The words around a name: sentence openers, media, adjectives, backgrounds, positions, relations, filler words.

A caption is a frame around one or more names. Frames are put together slot by slot (see captions.py), so that a few
hundred phrases here make millions of frames; the phrases under HELD_OUT are never used for training, only to measure
how well the model understands wordings that it has not met. Their single words do occur in training.
"""

SUBJECTS = """
this is|that is|there is|here is|it is|it's|that's|there's|here's|this was|this could be|this must be|this looks like
we see|you see|i see|they see|one sees|i can see|we can see|you may see|you might see|we could see|one can spot|i spot
look at|look|look here|take a look at|have a look at|just look at|check out|check this|behold|notice|note|observe|spot
showing|shows|displaying|displays|depicting|depicts|featuring|features|containing|contains|presenting|presents|including
the picture shows|the image shows|the photo shows|the drawing shows|the icon shows|the picture has|the image has
the image contains|the picture contains|in the picture there is|in this image there is|in this photo you find
in the middle there is|on the page there is|inside the frame we have|inside the box is|within the frame there is
it shows|it depicts|it has|it contains|it displays|it looks like|it seems to be|it appears to be|it represents
what you see is|what we see is|what i see is|what is shown is|what we have is|what they drew is|what is this
you are looking at|we are looking at|i am looking at|someone is holding|somebody made|someone drew|somebody painted
i drew|i made|i found|i have|i like|i love|i want|i need|i took|i bought|we found|we made|we have|we like|they have
she has|he has|she found|he drew|she likes|he wants|my friend has|my friend drew|our family has|the child drew
do you see|can you find|can you spot|did you see|have you seen|where is|who has|which one is|is this|is there
could it be
meet|find|show me|give me|bring me|tell me about|let us see|let me show|please find|please show me|search for
looking for
now showing|just|simply|only|once more|again|today we have|and now|finally|at last|of course|for example|such as|like
presented here is|shown below is|below is|above is|on display is|here comes|here we have|here are|there are|these are
all about|mostly|basically|clearly|obviously|perhaps|maybe|probably|possibly|surely|the same as|a kind of|a sort of
an example of|one example of|a type of|a piece of|a set of|a single|the subject is|the object is|the topic is
the theme is
the main object is|the answer is|the label is|the caption says|labelled as|known as|called|named|titled|tagged
subject:|object:|label:|class:|caption:|title:|tag:|category:|picture:|image:|photo:|icon:|emoji:|query:|name:
""".strip()

DETERMINERS = "a|an|the|this|that|one|my|your|our|some|another|each|every|"

MEDIA_ADJECTIVES = """
good|bad|nice|great|fine|lovely|pretty|ugly|clean|clear|blurry|dirty|noisy|sharp|bright|dim|simple|plain|detailed|quick
small|tiny|little|big|large|huge|cropped|low resolution|high resolution|high quality|low quality|pixelated
jpeg corrupted
cool|weird|strange|funny|cute|beautiful|wonderful|typical|common|rare|old|new|modern|classic|digital|colorful|colourful
close-up|centered|tilted|rotated|stylized|cartoon|flat|glossy|grey|gray|greyscale|grayscale|black and white|monochrome
|||||||||||||||||||||
""".strip()

MEDIA = """
photo|photograph|picture|image|pic|snapshot|shot|drawing|sketch|painting|illustration|rendering|render|icon|emoji
symbol|sign|sticker|graphic|cartoon|clip art|clipart|pictogram|emoticon|logo|badge|stamp|print|poster|scan|screenshot
depiction|representation|version|view|art|artwork|doodle|figure|stencil|tile|thumbnail|still|portrait|copy|example
""".strip()

CONNECTORS = """
of|of|of|of|of|showing|that shows|which shows|with|containing|depicting|featuring|for|about|representing|displaying|:|-
""".strip()

ADJECTIVES = """
nice|cute|lovely|pretty|beautiful|ugly|cool|great|good|bad|fine|weird|strange|funny|silly|simple|plain|fancy|little
typical|common|ordinary|usual|unusual|single|lonely|lone|certain|real|fake|digital|drawn|painted|printed|cartoon
stylized
clean|dirty|new|old|modern|classic|famous|well known|random|perfect|wonderful|amazing|awesome|familiar|tilted|rotated
blurry|sharp|bright|clear|dim|visible|hidden|flat|glossy|detailed|favorite|favourite|very nice|really nice|rather odd
""".strip()

SUFFIXES = """
in the picture|in the image|in this photo|in a photo|in the photo|in this picture|in this image|in the frame|in view
in sight
is shown|is shown here|is visible|is here|is there|is what you see|is in the picture|is in the image|is displayed
can be seen|can be seen here|may be seen|appears|appears here|as an emoji|as an icon|as a drawing|as a symbol
as a sticker
emoji|icon|sticker|symbol|sign|picture|image|drawing|photo|pictogram|clipart|graphic|emoticon|illustration|cartoon
on a background|against a background|on a plain background|on a busy background|with some background
without anything else
and nothing else|and nothing more|by itself|on its own|alone|for you|for me|for everyone|of some kind|of course|i think
i guess|i believe|you know|i suppose|is it not|right there|over there|somewhere|somewhere in the image|at an angle
drawn by someone|made by someone|drawn by a computer|from the internet|from a phone|from a chat|in a message|in a chat
on my phone|on the screen|on a page|on paper|on a wall|on a card|in the style of a cartoon|in high quality
in low quality
is nice|is cute|is fine|is great|looks nice|looks good|looks great|looks funny|looks strange|is my favorite|please
""".strip()

COLOURS = {  # name: the colour that it stands for, 0..255
    "red": (225, 35, 40),
    "orange": (250, 140, 25),
    "yellow": (250, 220, 40),
    "green": (50, 165, 65),
    "blue": (40, 95, 225),
    "purple": (130, 60, 180),
    "pink": (250, 150, 195),
    "brown": (130, 80, 45),
    "black": (14, 14, 16),
    "white": (255, 255, 255),
    "grey": (135, 135, 138),
    "cyan": (60, 205, 215),
}
COLOUR_WORDS = {name: [name] for name in COLOURS} | {
    "grey": ["grey", "gray"],
    "cyan": ["cyan", "turquoise", "teal"],
    "purple": ["purple", "violet"],
}
BACKGROUNDS = """
on a {} background|on {}|against a {} background|over a {} background|in front of a {} background|with a {} background
on a {} wall|on {} paper|on a plain {} background|against {}|on a {} surface|the background is {}|with {} behind it
""".strip()

POSITIONS = {  # (column, row) of a 3x3 grid: phrases
    (0, 0): "in the top left corner|at the top left|in the upper left|top left",
    (1, 0): "at the top|near the top|in the upper part|in the upper half",
    (2, 0): "in the top right corner|at the top right|in the upper right|top right",
    (0, 1): "on the left|on the left side|at the left|in the left half",
    (1, 1): "in the middle|in the center|in the centre|at the center|centered",
    (2, 1): "on the right|on the right side|at the right|in the right half",
    (0, 2): "in the bottom left corner|at the bottom left|in the lower left|bottom left",
    (1, 2): "at the bottom|near the bottom|in the lower part|in the lower half",
    (2, 2): "in the bottom right corner|at the bottom right|in the lower right|bottom right",
}

SIZES = {"small": "small|tiny|little", "big": "big|large|huge"}
COUNTS = {
    1: "one|a single|exactly one|just one|only one",
    2: "two|a pair of|a couple of|exactly two|2 copies of|two copies of|2",
    3: "three|exactly three|3 copies of|three copies of|3|a trio of",
}

RELATIONS = {  # how the first named stands to the second
    "left": "left of|to the left of|on the left of|is left of|is to the left of|at the left side of",
    "right": "right of|to the right of|on the right of|is right of|is to the right of|at the right side of",
    "above": "above|over|on top of|is above|higher than|is over",
    "below": "below|under|beneath|is below|underneath|lower than",
}
JOINERS = "and|next to|beside|with|together with|as well as|near|and also|plus|,|along with|&"

FILLERS = """
a about above across after again against ago ahead all almost along already also although always am among an and any
anybody
anyone anything anywhere are around as ask at away be beautiful became because become been before began behind being
believe
below beneath beside besides better between beyond both bring brought but by call called came can cannot certain
certainly
check choose clear clearly closer come comes coming common contain contained contains could couple create created daily
dear
describe described describes detail did different discover display displayed do does doing done down draw drawing drawn
during
each easily easy either else enough entire especially even ever every everybody everyone everything everywhere exactly
example
excellent expect extra fair famous far favourite few figure find fine finished first follow following for form found
four frame
friend from front full funny further gave general generally get getting give given goes going gone gorgeous got great
group had
half happen happened happens hardly has have having he hear heard held help her here hers high him his hold holding how
however
i idea if illustrated imagine important in indeed inside instead interesting into is it item its itself join just keep
kept
kind knew know known large last late later learn least leave left less let lets like liked likely list listen lives
located long look
looked looking looks lots low made main mainly make makes making many matter may maybe me mean means meet middle might
mine
moment more most mostly much must my myself name named near nearby nearly need needed needs neither never new next nice
nobody
none nor normal not nothing notice now nowhere object observe obvious obviously of often old once one ones only onto
opinion or
order ordinary other others our ours out outside over own page paint painted part particular people perhaps person
photographed piece place placed plain please plenty point popular possible possibly present presented pretty probably
proper provide provided put quick quickly quiet quite rather reach read ready real really recent recently regular
remember render
rendered represent represented right same saw say says scene see seeing seem seems seen send sent set several shall she
should show
showed showing shown shows side similar simple simply since single sit situation six small so some somebody someone
something sometimes somewhat somewhere soon sort special stand start started stay still story stuff such suggest
suppose sure surely surface take taken takes taking talk tell ten than thank that the their them themselves then there
therefore
these they thing things think third this those though thought three through throughout thus tiny title to today
together told
tomorrow tonight too took toward towards tried try trying turn turned twice two type typical under understand unless
until up
upon us use used useful user using usual usually various very view viewed viewer visible visual want wanted wants was
watch
way we week well went were what whatever when whenever where wherever whether which while who whoever whole whose why
wide
will wish with within without wonder wonderful word words work would write written wrong yes yesterday yet you your
yours yourself
""".split()

# Never used in training; "here you can see" is the wording that the first recipe was measured on.
HELD_OUT_OPENERS = """
here you can see|as you can see this is|you can clearly see|what can be seen here is|this one here shows
right here we find
somebody has drawn|in front of you is|this seems to depict|the thing that you are looking at is|it would appear to be
i think that this is|everyone can see|we are now looking at|this picture clearly contains|have you ever seen
my favourite drawing shows|in this drawing there is|the whole image is about|another nice example of
it must be|they are looking for|one more time|someone took a photo of|i would like to see|this small picture has
the artist has drawn|you should look at|could you show me|an old painting of|the following image shows
what a lovely|please look at|there you have|all you see is|that thing over there is|a really good view of
your picture contains|the user wants to see|something like|nothing but
""".strip()
HELD_OUT_SUFFIXES = """
was drawn here|is all there is|if you look closely|is what this shows|and that is it|for all to see|as seen here
is the thing that we see|made for you|is in front of us
""".strip()


def split(text):
    """The phrases of one of the blocks above (`|` and line ends separate; an empty phrase means: leave it out)."""
    return [phrase.strip() for line in text.splitlines() for phrase in line.split("|")]
