"""Remove the markup of Markdown and HTML from a text."""

import html
import re

HEADING = re.compile(r"^[ \t]*(?:#{2,6}|#(?=[ \t]+[^\d\s]))[ \t]+(?=\S)", re.MULTILINE)
BULLET = re.compile(r"^[ \t]*[*+-][ \t]+(?=\S)", re.MULTILINE)
LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
# A tag has a name, and attributes only with "=": "a < b and c > d" has none.
TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9:-]{0,40}(?:(?:=| [A-Za-z-]{1,40}=)[^<>\n]{0,400})?\s?/?>")
ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,30}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});")

MAX_ENCODINGS = 2
"""The number of times that entities are decoded: `&amp;#39;` was encoded twice."""


def remove_markup(text: str) -> str:
    """Remove headings' and bullets' marks, addresses of links, tags, and emphasis from `text`; decode HTML entities.

    A heading and a list item end with a pause.
    """
    if "<" in text:
        text = TAG.sub(" ", text)
    for _ in range(MAX_ENCODINGS):
        if "&" in text:
            text = ENTITY.sub(lambda match: html.unescape(match[0]), text)
    text = LINK.sub(r"\1", text).replace("~~", "")
    if HEADING.search(text) or ("\n" in text and BULLET.search(text)):
        lines = text.split("\n")
        for i, line in enumerate(lines):
            bare = BULLET.sub("", HEADING.sub("", line))
            following = i + 1 < len(lines) and lines[i + 1].strip()
            if bare != line and following and bare.rstrip()[-1:] not in ".,;:!?":
                bare = f"{bare.rstrip()};"
            lines[i] = bare
        text = "\n".join(lines)
    return text
