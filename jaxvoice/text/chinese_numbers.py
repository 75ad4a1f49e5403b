"""Numbers in Chinese characters, which num2words does not write."""

_DIGITS = "零一二三四五六七八九"
_PLACES = ("", "十", "百", "千")
_GROUPS = ("", "万", "亿", "万亿")


def chinese_number(digits: str) -> str:
    """A number of at most 16 digits, with a full stop before decimals: `1024.5` becomes `一千零二十四点五`."""
    whole, _, part = digits.partition(".")
    return _whole(int(whole)) + (f"点{chinese_digits(part)}" if part else "")


def chinese_digits(digits: str) -> str:
    """The digits one by one, as years are read: `2024` becomes `二零二四`."""
    return "".join(_DIGITS[int(digit)] for digit in digits)


def _whole(number: int) -> str:
    if number == 0:
        return _DIGITS[0]
    groups = []
    while number:
        number, group = divmod(number, 10_000)
        groups.append(group)
    words = ""
    for place in reversed(range(len(groups))):
        group = groups[place]
        if not group:
            continue
        # A zero is read once where places before a digit are empty.
        skipped = words and (group < 1000 or groups[place + 1] == 0)
        words += (_DIGITS[0] if skipped else "") + _group(group) + _GROUPS[place]
    # 12 is read without the one: "十二", but "一百一十二".
    return words[1:] if words.startswith("一十") else words


def _group(number: int) -> str:
    """A number below 10,000."""
    words, empty = "", False
    for place in reversed(range(4)):
        digit = number // 10**place % 10
        if digit:
            words += (_DIGITS[0] if empty else "") + _DIGITS[digit] + _PLACES[place]
            empty = False
        else:
            empty = bool(words)
    return words
