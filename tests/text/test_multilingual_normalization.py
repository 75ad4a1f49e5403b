"""Text of many languages in words: numbers, ordinals, money, abbreviations, symbols and lower case."""

# ruff: noqa: RUF001 - the texts are in several scripts.

import random
import re
import subprocess
import sys

import pytest

from jaxvoice.errors import TextError
from jaxvoice.text.chinese_numbers import chinese_digits, chinese_number
from jaxvoice.text.language_tables import TABLES
from jaxvoice.text.multilingual_normalization import normalize_multilingual, number_words


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "42 cats, 1,000.5", "forty-two cats, one thousand point five"),
        ("es", "42 gatos, 1.000", "cuarenta y dos gatos, mil"),
        ("fr", "42 chats, 3,5", "quarante-deux chats, trois virgule cinq"),
        ("de", "42 Katzen, 3,5", "zweiundvierzig katzen, drei komma fünf"),
        ("it", "42 gatti, 3,5", "quarantadue gatti, tre virgola cinque"),
        ("pt", "42 gatos, 3,5", "quarenta e dois gatos, três vírgula cinco"),
        ("pl", "42 koty, 3,5", "czterdzieści dwa koty, trzy przecinek pięć"),
        ("tr", "42 kedi", "kırkiki kedi"),
        ("ru", "42 кошки, 3,5", "сорок два кошки, три целых пять десятых"),
        ("nl", "42 katten, 3,5", "tweeënveertig katten, drie komma vijf"),
        ("cs", "42 koček", "čtyřicet dva koček"),
        ("ar", "٤٢", "اثنان و أربعون"),
        ("zh-cn", "42只猫", "四十二只猫"),
        ("zh", "3.5", "三点五"),
        ("hu", "42 macska, 3,5", "negyvenkettő macska, három egész öt tized"),
        ("ko", "42", "사십이"),
        ("ja", "42匹", "四十二匹"),
        ("hi", "42  किताबें", "42 किताबें"),
    ],
)
def test_numbers_are_words_of_the_language(language, text, expected):
    assert normalize_multilingual(text, language) == expected


@pytest.mark.parametrize(
    ("language", "digits", "expected"),
    [
        ("tr", "3.5", "üç virgül beş"),
        ("tr", "2.25", "iki virgül yirmibeş"),
        ("tr", "2.05", "iki virgül sıfır beş"),
        ("ar", "3.5", "ثلاثة فاصلة خمسة"),
        ("de", "1984", "neunzehnhundertvierundachtzig"),
        ("de", "2024", "zweitausendvierundzwanzig"),
        ("de", "1000000000000001", " ".join(["eins", *["null"] * 14, "eins"])),
    ],
)
def test_decimals_years_and_long_numbers(language, digits, expected):
    assert number_words(digits, language) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("0", "零"),
        ("10", "十"),
        ("12", "十二"),
        ("105", "一百零五"),
        ("110", "一百一十"),
        ("1005", "一千零五"),
        ("1050", "一千零五十"),
        ("10000", "一万"),
        ("10005", "一万零五"),
        ("12345", "一万二千三百四十五"),
        ("100010001", "一亿零一万零一"),
        ("100000000", "一亿"),
        ("3.14", "三点一四"),
    ],
)
def test_chinese_numbers(number, expected):
    assert chinese_number(number) == expected


def test_chinese_years_are_read_digit_by_digit():
    assert chinese_digits("1980") == "一九八零"
    assert normalize_multilingual("2024年5月", "zh") == "二零二四年五月"


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "the 3rd", "the third"),
        ("es", "el 3.º y la 3ª", "el tercero y la tercera"),
        ("fr", "le 1er, la 1re et le 21e", "le premier, la première et le vingt et unième"),
        ("fr", "la 2nde", "la seconde"),
        ("de", "am 3. Mai", "am dritten mai"),
        ("de", "3. Mai", "dritter mai"),
        ("de", "das 2. Buch", "das zweite buch"),
        ("de", "Ich bin 42. Du auch.", "ich bin zweiundvierzig. du auch."),
        ("it", "il 3º, la 3ª", "il terzo, la terza"),
        ("pt", "o 1º e a 1ª", "o primeiro e a primeira"),
        ("pl", "3. raz", "trzeci raz"),
        ("pl", "w 1990 r.", "w tysiąc dziewięćset dziewięćdziesiątego roku."),
        ("tr", "3. kez", "üçüncü kez"),
        ("ru", "5-й, 5-я, 5-го", "пятый, пятая, пятого"),
        ("ru", "3-я, 90-е", "третья, девяностые"),
        ("ru", "в 2001 году", "в две тысячи первом году"),
        ("nl", "de 8ste", "de achtste"),
        ("cs", "dne 3. května", "dne třetího května"),
        ("cs", "21. století", "dvacátý první století"),
        ("hu", "a 3. fejezet", "a harmadik fejezet"),
        ("ko", "3번째, 20번째, 100번째", "세 번째, 스물 번째, 백 번째"),
    ],
)
def test_ordinals(language, text, expected):
    assert normalize_multilingual(text, language) == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "$5.50", "five dollars and fifty cents"),
        ("es", "21 €", "veintiún euros"),
        ("es", "$1,50", "un dólar con cincuenta centavos"),
        ("fr", "1,50 €", "un euro et cinquante centimes"),
        ("fr", "1 £", "une livre"),
        ("de", "€ 1,50", "ein euro und fünfzig cent"),
        ("de", "1.000 $", "eintausend dollar"),
        ("de", "-5 €", "minus fünf euro"),
        ("de", "0,50 €", "fünfzig cent"),
        ("fr", "1\u202f000\u00a0€", "mille euros"),
        ("de", "5 €.", "fünf euro."),
        ("it", "2 £", "due sterline"),
        ("pt", "£2", "duas libras"),
        ("pt", "R$ 5,00", "cinco reais"),
        ("pl", "2 $, 5 $, 22 $, 12 $", "dwa dolary, pięć dolarów, dwadzieścia dwa dolary, dwanaście dolarów"),
        ("tr", "5 ₺", "beş lira"),
        ("ru", "21 $, 2 $, 11 $", "двадцать один доллар, два доллара, одиннадцать долларов"),
        ("ru", "1 €", "одно евро"),
        ("nl", "€ 2", "twee euro"),
        ("cs", "1 £, 2 £, 5 £", "jedna libra, dvě libry, pět liber"),
        ("ar", "5 $", "خمسة دولار"),
        ("zh", "$5.50", "五点五美元"),
        ("hu", "2 €", "két euró"),
        ("ko", "$5", "오 달러"),
        ("ja", "$5.50", "五ドル五十セント"),
    ],
)
def test_money(language, text, expected):
    assert normalize_multilingual(text, language) == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("es", "Sr. Díaz & Sra. Díaz", "señor díaz y señora díaz"),
        ("fr", "M. Noël et Mme Noël, etc.", "monsieur noël et madame noël, et cetera."),
        ("de", "Z. B. Hr. Weiß bzw. Dr. Groß", "zum beispiel herr weiß beziehungsweise doktor groß"),
        ("de", "Äpfel, Birnen usw.", "äpfel, birnen und so weiter."),
        ("it", "il sig. Rossi", "il signor rossi"),
        ("pt", "a Dra. Sousa", "a doutora sousa"),
        ("pl", "np. tzw. dom", "na przykład tak zwany dom"),
        ("tr", "Örn. Dr. Öz", "örneğin doktor öz"),
        ("ru", "г-н Иванов и т.д.", "господин иванов и так далее."),
        ("nl", "dhr. de Vries, d.w.z. hij", "de heer de vries, dat wil zeggen hij"),
        ("cs", "např. Ing. Novák", "například inženýr novák"),
        ("hu", "pl. dr. Kis stb.", "például doktor kis és így tovább."),
        ("ar", "د. أحمد", "دكتور أحمد"),
        ("de", "Drachen und Strich.", "drachen und strich."),
        ("fr", "un vol. Il part", "un vol. il part"),
    ],
)
def test_abbreviations(language, text, expected):
    assert normalize_multilingual(text, language) == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("de", "3,5 % & 20° # @", "drei komma fünf prozent und zwanzig grad raute at"),
        ("es", "50% y 1°", "cincuenta por ciento y un grado"),
        ("ru", "1 %, 2 %, 5 %", "один процент, два процента, пять процентов"),
        ("tr", "%5", "yüzde beş"),
        ("zh", "42%", "百分之四十二"),
        ("ja", "42%", "四十二パーセント"),
        ("fr", "-5 à 10-20", "moins cinq à dix à vingt"),
        ("de", "um 12:30", "um zwölf dreißig"),
        ("it", "€, $ e £", "euro, dollari e sterline"),
    ],
)
def test_symbols(language, text, expected):
    assert normalize_multilingual(text, language) == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("ru", "24.12.2025 г.", "двадцать четыре двенадцать две тысячи двадцать пятого года."),
        ("de", "am 24.12.2025 um", "am vierundzwanzig zwölf zweitausendfünfundzwanzig um"),
        ("de", "Am 01.05.2025.", "am eins fünf zweitausendfünfundzwanzig."),
        ("cs", "3. 5. 2025", "tři pět dva tisíce dvacet pět"),
        ("pl", "24.12.2025 r. w", "dwadzieścia cztery dwanaście dwa tysiące dwudziestego piątego roku w"),
        ("fr", "05/06/2025", "cinq six deux mille vingt-cinq"),
        ("de", "2025-01-05", "zweitausendfünfundzwanzig eins fünf"),
        ("de", "am 24.12. kommt", "am vierundzwanzig zwölf kommt"),
        ("de", "Version 3.12. Sie", "version drei komma eins zwei. sie"),
        ("de", "um 08:05", "um acht null fünf"),
        ("de", "um 12.30 Uhr, 9.05 Uhr", "um zwölf dreißig uhr, neun null fünf uhr"),
        ("zh", "3:30, 3:05, 3:00", "三点三十分, 三点零五分, 三点"),
        ("zh", "3:2", "三比二"),
        ("ja", "3:05", "三時五分"),
        ("it", "192.168.1.1.", "centonovantadue centosessantotto uno uno."),
        ("de", "1.234.567", "eine million zweihundertvierunddreißigtausendfünfhundertsiebenundsechzig"),
    ],
)
def test_dates_and_times(language, text, expected):
    assert normalize_multilingual(text, language) == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("de", "1,50 m", "eins komma fünf null m"),
        ("de", "3,00", "drei komma null null"),
        ("de", "3,05", "drei komma null fünf"),
        ("fr", "3,10", "trois virgule un zéro"),
        ("pl", "12.30", "dwanaście przecinek trzydzieści"),
        ("ko", "3.50", "삼 점 오 영"),
        ("ja", "3.50", "三点五零"),
        ("ru", "3,50", "три целых пять десятых"),
        ("de", "0049", "null null vier neun"),
        ("fr", "06 12", "zéro six douze"),
        ("zh", "007", "零零七"),
        ("zh", "13800138000", "一三八零零一三八零零零"),
        ("zh", "$13800138000", "一百三十八亿零一十三万八千美元"),
    ],
)
def test_zeros_and_telephone_numbers_are_read(language, text, expected):
    assert normalize_multilingual(text, language) == expected


def test_turkish_has_two_letters_i():
    assert normalize_multilingual("IĞDIR İzmir", "tr") == "ığdır izmir"
    assert normalize_multilingual("IGEL", "de") == "igel"


@pytest.mark.parametrize("language", ["en", *TABLES, "hi", "vi"])
def test_quotes_and_spaces_are_cleaned(language):
    assert normalize_multilingual("  “A”\n\t«b»  [c] \u200b{d}! ", language) == "a b (c) (d)!"


def test_other_languages_have_numbers_of_num2words():
    assert normalize_multilingual("2 Katter", "sv") == "två katter"


def test_english_without_reading_is_an_error():
    with pytest.raises(TextError, match="character 4"):
        normalize_multilingual("Hi \N{GRINNING FACE}", "en")


@pytest.mark.parametrize("language", sorted(TABLES))
def test_all_entries_of_the_tables_are_read(language):
    table = TABLES[language]
    for sign in table.money:
        for amount in ("1", "2", "5", "21", "3.05" if language in ("ar", "zh", "ja", "ko") else "3,05"):
            words = normalize_multilingual(f"{amount} {sign}", language)
            assert sign.lower() not in words and not any(one.isdigit() for one in words), words
    for symbol in (*table.symbols, "%", "°"):
        assert symbol not in normalize_multilingual(f"a {symbol} b", language)
    for key, words in table.abbreviations.items():
        before = {"####": "1990 ", "#": "20 "}.get("#" * (len(key) - len(key.lstrip("#"))), "")
        after = {"#": " 5", "^": " Abc"}.get(key[-1], " abc")
        assert words in normalize_multilingual(before + key.strip("#^") + after, language), key


@pytest.mark.parametrize("language", sorted(TABLES))
def test_any_text_is_read(language):
    rng = random.Random(language)
    characters = "aB zZ 0123 456789 .,:;-–/%°$€£'\"()[]éßДया年가٣٫ \n\u00a0&@#+=²½① № z.B. Dr. usw. 1. 0. 20번째 3-й"
    for _ in range(150):
        text = "".join(rng.choice(characters) for _ in range(rng.randint(0, 40)))
        read = normalize_multilingual(text, language)
        assert read == read.strip() and "  " not in read and not re.search("[0-9$€£%]", read), text


@pytest.mark.parametrize("run", ["1\u00a0", "1.", "1,", "1-", "€", "1€", "usw. ", " ", "1.111", "3. ", "1.1."])
def test_long_runs_are_read(run):
    """Quadratic backtracking takes over ten seconds, which shows in the durations of the tests."""
    assert normalize_multilingual(run * 12_000 + "a", "de").endswith("a")


def test_modules_of_text_do_not_import_jax():
    program = "import sys, jaxvoice.text.sentences, jaxvoice.text.romanization; print('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.parametrize(("language", "one", "few"), [("fr", "euros", "euros"), ("ru", "процентов", "процента")])
def test_nouns_after_very_long_numbers(language, one, few):
    """Python converts at most 4,300 digits to a number; the form depends on the last two."""
    sign = "%" if language == "ru" else " €"
    assert normalize_multilingual("9" * 5000 + sign, language).endswith(one)
    assert normalize_multilingual("9" * 4999 + "3" + sign, language).endswith(few)
