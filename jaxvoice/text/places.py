"""Expand addresses: streets, saints, postal codes, states and apartments."""

import re

from jaxvoice.text.abbreviations import MONTHS
from jaxvoice.text.numbers import digit_words, expand_matches, ordinal
from jaxvoice.text.sentence_ends import SENTENCE_STOP, STARTERS
from jaxvoice.text.telephone_numbers import year_style

STREET_TYPES = {
    "st": "street",
    "dr": "drive",
    "ave": "avenue",
    "av": "avenue",
    "blvd": "boulevard",
    "rd": "road",
    "ln": "lane",
    "ct": "court",
    "pl": "place",
    "sq": "square",
    "ter": "terrace",
    "cir": "circle",
    "hwy": "highway",
    "pkwy": "parkway",
    "fwy": "freeway",
    "expy": "expressway",
}
TYPE = "|".join(sorted(STREET_TYPES, key=len, reverse=True))
TITLE_TYPE = "|".join(word.capitalize() for word in sorted(STREET_TYPES, key=len, reverse=True))
DIRECTIONS = {"N": "north", "S": "south", "E": "east", "W": "west", "NE": "northeast", "NW": "northwest"}
DIRECTIONS |= {"SE": "southeast", "SW": "southwest"}
NUMBERED_ADDRESS = re.compile(
    rf"(?<![\w.,$£€-])(\d{{1,5}})(?: ({'|'.join(DIRECTIONS)})\.?)?"
    r"((?: (?:[A-Z][a-z]+(?:'s)?|\d+(?:st|nd|rd|th))){1,3}?)"
    rf" ((?i:{TYPE}))\b(\.?)(?=(?: +(?:([A-Z][A-Za-z]*)|\d))?)"
)
STREET = re.compile(
    rf"\b([A-Z][a-z]+(?:'s)?|\d+(?:st|nd|rd|th)) ({TITLE_TYPE})\b"
    rf"(?:\.?(?= *[,;:!?)]| [a-z]|{SENTENCE_STOP})|(\.?)(?= *$))"
)
SAINT = re.compile(r"\b(?:([A-Z][a-z]*(?:'s)?) )?St (?=([A-Z][a-z]+))")
NEAR_STREETS = frozenset(
    ["Station", "Bridge", "Market", "School", "Church", "Theatre", "Theater", "Park", "Elementary", "Metro", "Subway"]
)
ZIP_CODE = re.compile(r"\b((?:[Zz]ip|ZIP)(?: [Cc]odes?)?:? )(\d{5})(?!\d)")
_STATES = (
    "AL AK AZ AR CA CO CT DE FL GA HI IA ID IL IN KS KY LA MA MD ME MI MN MO MS MT NC ND NE NH NJ NM NV NY OH OK OR PA"
    " RI SC SD TN TX UT VA VT WA WI WV WY DC BC ON QC AB NSW"
)
POSTAL_CODE = re.compile(
    rf"(?:(?<=, )([A-Z]{{2}})|(?<=[a-z.] )({'|'.join(_STATES.split())}))(,? +)(\d{{5}})(-\d{{4}})?(?![\d-])"
)
ZIP_CODE_OF_NINE = re.compile(r"(?<![\w.,$£€/-])(\d{5})-(\d{4})(?![\w/-]|[.,]\d)")
_PROVINCES = "AB BC MB NB NL NS NT NU ON PE QC SK YT"
CANADIAN_CODE = re.compile(
    rf"(?<![A-Za-z0-9-])(?:({'|'.join(_PROVINCES.split())})(,? ))?"
    r"([ABCEGHJ-NPRSTVXY]\d[A-Z] ?\d[ABCEGHJ-NPRSTV-Z]\d|[ABCEGHJ-NPRSTVXY]\d[A-Z]-\d[ABCEGHJ-NPRSTV-Z]\d)(?![\w-])"
)
_BRITISH_AREAS = (
    "AB AL B BA BB BD BH BL BN BR BS BT CA CB CF CH CM CO CR CT CV CW DA DD DE DG DH DL DN DT DY E EC EH EN EX FK FY G"
    " GL GU GY HA HD HG HP HR HS HU HX IG IM IP IV JE KA KT KW KY L LA LD LE LL LN LS LU M ME MK ML N NE NG NN NP NR NW"
    " OL OX PA PE PH PL PO PR RG RH RM S SA SE SG SK SL SM SN SO SP SR SS ST SW SY TA TD TF TN TQ TR TS TW UB W WA WC"
    " WD WF WN WR WS WV YO ZE"
)
BRITISH_CODE = re.compile(
    rf"(?<![A-Za-z0-9-])(?:(?:{'|'.join(sorted(_BRITISH_AREAS.split(), key=len, reverse=True))})\d[A-Z\d]?"
    r" ?(?!\d(?:GB|TB)\b)\d[ABD-HJLNP-UW-Z]{2})(?![\w-])"
)
STATE = re.compile(rf"(?<=[a-z], )({'|'.join(_STATES.split())})(?:(\.)(?= *$| +[A-Z])|(?= *(?:$|[,.;:!?)])))")
PREMISES = {"Apt": "apartment", "apt": "apartment", "Ste": "suite", "Bldg": "building", "bldg": "building"}
PREMISES |= {"Rm": "room", "rm": "room"}
PREMISE = re.compile(rf"\b({'|'.join(PREMISES)})\b\.?(?= ?#?\d| [A-Z]\b)")
PREMISE_SIGN = re.compile(r"(?<=[a-z])(,? )#(?=\d+[A-Z]?\b *(?:,|$))")


def expand_places(text: str) -> str:
    """Expand the addresses of folded `text`: `12 Elm St.`, `5th Ave`, `St Paul's`, `Apt. 4B`, `Dallas, TX 75201`.

    Postal codes of the USA, Canada and Britain are spelled: `12345-6789`, `M5V 3L9`, `SW1A 1AA`.
    """
    text = expand_matches(POSTAL_CODE, _postal_code, text)
    text = expand_matches(CANADIAN_CODE, _canadian_code, text)
    text = expand_matches(BRITISH_CODE, lambda match: _spell_code(match[0]), text)
    text = expand_matches(ZIP_CODE_OF_NINE, lambda match: f"{digit_words(match[1])}, {digit_words(match[2])}", text)
    text = expand_matches(ZIP_CODE, lambda match: match[1] + digit_words(match[2]), text)
    text = expand_matches(STATE, lambda match: " ".join(match[1]) + (SENTENCE_STOP if match[2] else ""), text)
    text = expand_matches(PREMISE, lambda match: f"{PREMISES[match[1]]} ", text)
    text = expand_matches(NUMBERED_ADDRESS, _numbered_address, text)
    text = expand_matches(STREET, lambda match: f"{match[1]} {STREET_TYPES[match[2].lower()]}{match[3] or ''}", text)
    return expand_matches(SAINT, _saint, text)


def _postal_code(match: re.Match[str]) -> str:
    state, separator, digits, extension = match[1] or match[2], match[3], match[4], match[5]
    code = digit_words(digits) + (f", {digit_words(extension[1:])}" if extension else "")
    return f"{' '.join(state)}{separator}{code}"


def _spell_code(code: str) -> str:
    """Letters and digits one by one: `SW1A 1AA` becomes `S W one A one A A`."""
    return " ".join(digit_words(sign) if sign.isdigit() else sign for sign in code if sign.isalnum())


def _canadian_code(match: re.Match[str]) -> str:
    province = f"{' '.join(match[1])}{match[2]}" if match[1] else ""
    return province + _spell_code(match[3])


def _numbered_address(match: re.Match[str]) -> str:
    number, direction, names, kind, stop, following = match.groups()
    if {name.capitalize() for name in names.split()} & {*MONTHS, *(month.capitalize() for month in MONTHS.values())}:
        return match[0]  # "on 12 May Dr. Smith came"
    if kind == "Dr" and following and following not in STARTERS:
        return match[0]
    words = [year_style(number), *([DIRECTIONS[direction]] if direction else [])]
    words += [ordinal(int(name[:-2])) if name[0].isdigit() else name for name in names.split()]
    # After a full stop, a word with a capital starts a sentence, unless it continues the address.
    continues = following in ("Apt", "Suite", "Ste", "Unit", "Floor", "Building", *DIRECTIONS)
    ends = stop and match.string[match.end() : match.end() + 1] != SENTENCE_STOP
    ends = ends and ((following and not continues) or not match.string[match.end() :][:40].strip())
    return f"{' '.join(words)} {STREET_TYPES[kind.lower()]}{'.' if ends else ''}"


def _saint(match: re.Match[str]) -> str:
    before, name = match[1], match[2]
    of_street = before and before not in STARTERS and name in NEAR_STREETS
    return f"{before + ' ' if before else ''}{'street' if of_street else 'saint'} "
