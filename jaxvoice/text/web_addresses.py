"""Read web addresses, email addresses and paths: `example.com/a-b` becomes `example dot com slash a dash b`."""

import re

from jaxvoice.text.numbers import cardinal, digit_words

TOKEN = re.compile(r"\S+")
OPENING, CLOSING = ".([<\"'", ".,;:!?)]>\"'"
SCHEME = re.compile(r"([A-Za-z]{2,8})://(.+)")
EMAIL = re.compile(r"[\w.+&~'-]+@[\w-]+(?:\.[\w-]+)+(?:[/?].*)?")
DOMAINS = (
    "com|org|net|edu|gov|mil|int|info|biz|io|ai|app|dev|tv|co|uk|us|de|fr|it|es|nl|eu|ca|au|jp|cn|in|ch|at|be|se|no"
)
DOMAIN = re.compile(rf"(?:[A-Za-z0-9-]+\.)+(?:{DOMAINS})(?::\d+)?(?:[/?#].*)?")
PIECE = re.compile(r"[A-Za-z]+|\d+|.")
COUNTRY = re.compile(r"(?<=\.)[a-z]{2}(?=[:/?#]|$)")
NAMES = {
    ".": "dot",
    "-": "dash",
    "_": "underscore",
    "/": "slash",
    "@": "at",
    "&": "ampersand",
    "~": "tilde",
    "?": "question mark",
    "=": "equals",
    "#": "hash",
    "%": "percent",
    ":": "colon",
    "+": "plus",
}


def expand_web_addresses(text: str) -> str:
    """Expand the web addresses, email addresses and file addresses of folded `text` to words.

    `http://` and `www.` after it are not read.
    """
    return TOKEN.sub(_token, text) if "." in text or "://" in text else text


def _token(match: re.Match[str]) -> str:
    token = match[0]
    address = token.lstrip(OPENING)
    opening = token[: len(token) - len(address)]
    address = address.rstrip(CLOSING)
    closing = token[len(opening) + len(address) :]
    if scheme := SCHEME.fullmatch(address):
        web = scheme[1].lower() in ("http", "https")
        read = _read(re.sub(r"^www\.", "", scheme[2])) if web else f"{scheme[1]} colon slash slash {_read(scheme[2])}"
    elif EMAIL.fullmatch(address) or DOMAIN.fullmatch(address) or address.startswith("www."):
        read = _read(address)
    else:
        return token
    return f"{opening}{read}{closing}"


def _read(address: str) -> str:
    host, slash, path = address.partition("/")
    host = COUNTRY.sub(lambda match: " ".join(match[0].upper()), host)
    words: list[str] = []
    for found in PIECE.finditer(host + slash + path):
        piece = found[0]
        if piece.isdigit():
            round_number = len(piece) > 2 and piece.endswith("00") and piece[0] != "0" and len(piece) < 7
            words.append(cardinal(int(piece)) if round_number else digit_words(piece))
        elif len(piece) == 1 and piece.isascii() and piece.isalpha():
            words.append(piece.upper())
        else:
            words.append(NAMES.get(piece, piece))
    return " ".join(" ".join(words).split())
