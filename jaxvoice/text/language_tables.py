"""Abbreviations, symbols and money in words, in the languages of `normalize_multilingual`.

An abbreviation is written as in texts, in lower case, and matches any case. `#` before it requires a number before it,
`####` a number of four digits, `#` after it a number after it, and `^` after it a word with a capital. An abbreviation
with a capital, or without a full stop, matches as it is written only.

A noun is its gender and its forms: `m dólar/dólares` for one and for more, or `m рубль/рубля/рублей` for one, for two
to four, and for five and more.
"""

# ruff: noqa: RUF001 - the tables contain letters of several scripts.

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


def _pairs(table: str) -> Mapping[str, str]:
    """The pairs of `key = words | key = words`."""
    parts = (entry.strip().partition(" = ") for entry in table.split("|"))
    return MappingProxyType({key.strip(): words.strip() for key, _, words in parts})


@dataclass(frozen=True)
class LanguageTable:
    """How a language reads what is not a word."""

    symbols: Mapping[str, str]
    """The words of symbols."""
    percent: str
    """The noun of `%`."""
    degree: str
    """The noun of `°`."""
    money: Mapping[str, str]
    """Signs of currencies, and the nouns of their units and subunits."""
    minus: str
    """The word before a negative number."""
    to: str = ""
    """The word between the ends of a range of numbers."""
    cents: str = ""
    """The word between units and subunits of money."""
    endings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Ends of numbers before a noun: gender and end, and the end that it becomes."""
    abbreviations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Words of abbreviations."""
    percent_first: bool = False
    """Whether the noun of `%` comes before the number."""


TABLES: Mapping[str, LanguageTable] = MappingProxyType(
    {
        "es": LanguageTable(
            symbols=_pairs("& = y | @ = arroba | # = almohadilla | + = más | = = igual a"),
            percent="- por ciento",
            degree="m grado/grados",
            money=_pairs(
                "$ = m dólar/dólares, m centavo/centavos | € = m euro/euros, m céntimo/céntimos"
                " | £ = f libra/libras, m penique/peniques | ¥ = m yen/yenes"
            ),
            minus="menos",
            to="a",
            cents="con",
            endings=_pairs("m veintiuno = veintiún | m uno = un | f uno = una | f cientos = cientas"),
            abbreviations=_pairs(
                "sr. = señor | sra. = señora | srta. = señorita | sres. = señores | dr. = doctor | dra. = doctora"
                " | ud. = usted | uds. = ustedes | vd. = usted | prof. = profesor | núm. = número | nº = número"
                " | avda. = avenida | av. = avenida | etc. = etcétera | pág. = página | págs. = páginas"
                " | p.ej. = por ejemplo | ee.uu. = estados unidos | sto. = santo | sta. = santa"
                " | dpto. = departamento | tel. = teléfono | aprox. = aproximadamente | a.c. = antes de cristo"
                " | d.c. = después de cristo | cap.# = capítulo | vol.# = volumen | lic.^ = licenciado"
                " | ing.^ = ingeniero | gral. = general"
            ),
        ),
        "fr": LanguageTable(
            symbols=_pairs("& = et | @ = arobase | # = dièse | + = plus | = = égale"),
            percent="- pour cent",
            degree="m degré/degrés",
            money=_pairs(
                "$ = m dollar/dollars, m cent/cents | € = m euro/euros, m centime/centimes"
                " | £ = f livre/livres, m penny/pence | ¥ = m yen/yens"
            ),
            minus="moins",
            to="à",
            cents="et",
            endings=_pairs("f un = une"),
            abbreviations=_pairs(
                "M.^ = monsieur | MM.^ = messieurs | Mme = madame | Mmes = mesdames | Mlle = mademoiselle"
                " | dr.^ = docteur | Dr = docteur | Pr = professeur | prof. = professeur | St = saint | Ste = sainte"
                " | etc. = et cetera | p.ex. = par exemple | c.-à-d. = c'est-à-dire | n° = numéro | nº = numéro"
                " | av. j.-c. = avant jésus-christ | apr. j.-c. = après jésus-christ | av.^ = avenue"
                " | tél. = téléphone | env. = environ | chap.# = chapitre | vol.# = volume | p.# = page"
            ),
        ),
        "de": LanguageTable(
            symbols=_pairs("& = und | @ = at | # = raute | + = plus | = = gleich | § = paragraf"),
            percent="m prozent",
            degree="m grad",
            money=_pairs("$ = m dollar, m cent | € = m euro, m cent | £ = m pfund, m penny/pence | ¥ = m yen"),
            minus="minus",
            to="bis",
            cents="und",
            endings=_pairs("m eins = ein"),
            abbreviations=_pairs(
                "Hr.^ = herr | Hrn.^ = herrn | Fr.^ = frau | dr. = doktor | prof. = professor | nr. = nummer"
                " | str. = straße | z.b. = zum beispiel | d.h. = das heißt | u.a. = unter anderem"
                " | usw. = und so weiter | bzw. = beziehungsweise | ca. = circa | evtl. = eventuell"
                " | ggf. = gegebenenfalls | inkl. = inklusive | vgl. = vergleiche | St.^ = sankt | abs.# = absatz"
                " | bd.# = band | mio. = millionen | mrd. = milliarden | tel. = telefon | jh. = jahrhundert"
                " | geb. = geboren | sog. = sogenannte | v.chr. = vor christus | n.chr. = nach christus"
                " | o.ä. = oder ähnliches | z.t. = zum teil | i.d.r. = in der regel | s.# = seite"
            ),
        ),
        "it": LanguageTable(
            symbols=_pairs("& = e | @ = chiocciola | # = cancelletto | + = più | = = uguale"),
            percent="- per cento",
            degree="m grado/gradi",
            money=_pairs(
                "$ = m dollaro/dollari, m centesimo/centesimi | € = m euro, m centesimo/centesimi"
                " | £ = f sterlina/sterline, m penny | ¥ = m yen"
            ),
            minus="meno",
            to="a",
            cents="e",
            endings=_pairs("m uno = un | f uno = una"),
            abbreviations=_pairs(
                "sig. = signor | sig.ra = signora | sig.na = signorina | dott. = dottor | dott.ssa = dottoressa"
                " | dr. = dottor | prof. = professor | prof.ssa = professoressa | avv. = avvocato | ing.^ = ingegner"
                " | ecc. = eccetera | es. = esempio | p.es. = per esempio | pag. = pagina | pagg. = pagine"
                " | tel. = telefono | n.# = numero | nº = numero | on.^ = onorevole | vol.# = volume"
                " | cap.# = capitolo | a.c. = avanti cristo | d.c. = dopo cristo"
            ),
        ),
        "pt": LanguageTable(
            symbols=_pairs("& = e | @ = arroba | # = cardinal | + = mais | = = igual a"),
            percent="- por cento",
            degree="m grau/graus",
            money=_pairs(
                "$ = m dólar/dólares, m centavo/centavos | € = m euro/euros, m cêntimo/cêntimos"
                " | £ = f libra/libras, m penny/pence | ¥ = m iene/ienes | R$ = m real/reais, m centavo/centavos"
            ),
            minus="menos",
            to="a",
            cents="e",
            endings=_pairs("f um = uma | f dois = duas | f entos = entas"),
            abbreviations=_pairs(
                "sr. = senhor | sra. = senhora | srta. = senhorita | srs. = senhores | dr. = doutor | dra. = doutora"
                " | prof. = professor | profa. = professora | etc. = etcétera | p.ex. = por exemplo | av. = avenida"
                " | n.º = número | nº = número | pág. = página | págs. = páginas | tel. = telefone"
                " | eng.^ = engenheiro | sto. = santo | sta. = santa | aprox. = aproximadamente | cap.# = capítulo"
                " | vol.# = volume | a.c. = antes de cristo | d.c. = depois de cristo"
            ),
        ),
        "pl": LanguageTable(
            symbols=_pairs("& = i | @ = małpa | # = krzyżyk | + = plus | = = równa się | § = paragraf"),
            percent="m procent",
            degree="m stopień/stopnie/stopni",
            money=_pairs(
                "$ = m dolar/dolary/dolarów, m cent/centy/centów | € = n euro, m cent/centy/centów"
                " | £ = m funt/funty/funtów, m pens/pensy/pensów | ¥ = m jen/jeny/jenów"
            ),
            minus="minus",
            to="do",
            endings=_pairs("n jeden = jedno"),
            abbreviations=_pairs(
                "np. = na przykład | itd. = i tak dalej | itp. = i tym podobne | tzn. = to znaczy | tzw. = tak zwany"
                " | m.in. = między innymi | prof. = profesor | dr. = doktor | dr = doktor | mgr = magister"
                " | inż. = inżynier | ul. = ulica | al.^ = aleja | nr = numer | św. = święty | ok.# = około"
                " | godz. = godzina | tys. = tysięcy | mln = milionów | mld = miliardów | ####r. = roku"
                " | #zł = złotych | p.n.e. = przed naszą erą | n.e. = naszej ery | str.# = strona | tel. = telefon"
                " | rozdz. = rozdział | wg = według"
            ),
        ),
        "tr": LanguageTable(
            symbols=_pairs("& = ve | @ = et | # = kare | + = artı | = = eşittir"),
            percent="- yüzde",
            percent_first=True,
            degree="- derece",
            money=_pairs("$ = - dolar, - sent | € = - avro, - sent | £ = - sterlin, - peni | ₺ = - lira, - kuruş"),
            minus="eksi",
            abbreviations=_pairs(
                "dr. = doktor | prof. = profesör | doç. = doçent | av.^ = avukat | sn.^ = sayın | vb. = ve benzeri"
                " | vs. = vesaire | örn. = örneğin | bkz. = bakınız | cad. = caddesi | mah. = mahallesi"
                " | no.# = numara | tel. = telefon | apt. = apartmanı | yy. = yüzyıl | m.ö. = milattan önce"
                " | m.s. = milattan sonra | t.c. = türkiye cumhuriyeti | #TL = türk lirası"
            ),
        ),
        "ru": LanguageTable(
            symbols=_pairs("& = и | @ = собака | # = решётка | + = плюс | = = равно | № = номер | § = параграф"),
            percent="m процент/процента/процентов",
            degree="m градус/градуса/градусов",
            money=_pairs(
                "$ = m доллар/доллара/долларов, m цент/цента/центов | € = n евро, m цент/цента/центов"
                " | £ = m фунт/фунта/фунтов, m пенс/пенса/пенсов | ¥ = f иена/иены/иен"
                " | ₽ = m рубль/рубля/рублей, f копейка/копейки/копеек"
            ),
            minus="минус",
            endings=_pairs("n один = одно | f один = одна | f два = две"),
            abbreviations=_pairs(
                "т.е. = то есть | т.д. = так далее | т.п. = тому подобное | т.к. = так как | т.ч. = том числе"
                " | др. = другие | пр. = прочее | ####г. = года | ####гг. = годов | г-н = господин | г-жа = госпожа"
                " | д-р = доктор | проф. = профессор | акад. = академик | ул. = улица | стр.# = страница"
                " | рис.# = рисунок | напр. = например | тыс. = тысяч | млн = миллионов | млрд = миллиардов"
                " | руб. = рублей | коп. = копеек | н.э. = нашей эры | тел. = телефон | св.^ = святой"
            ),
        ),
        "nl": LanguageTable(
            symbols=_pairs("& = en | @ = apenstaartje | # = hekje | + = plus | = = is | § = paragraaf"),
            percent="- procent",
            degree="- graad/graden",
            money=_pairs("$ = - dollar, - cent | € = - euro, - cent | £ = - pond, - penny/pence | ¥ = - yen"),
            minus="min",
            to="tot",
            cents="en",
            abbreviations=_pairs(
                "dhr. = de heer | mevr. = mevrouw | mw. = mevrouw | dr. = dokter | drs. = doctorandus"
                " | prof. = professor | ir. = ingenieur | ing. = ingenieur | mr.^ = meester | nr. = nummer"
                " | enz. = enzovoort | bijv. = bijvoorbeeld | bv. = bijvoorbeeld | d.w.z. = dat wil zeggen"
                " | o.a. = onder andere | m.a.w. = met andere woorden | i.p.v. = in plaats van"
                " | t.o.v. = ten opzichte van | a.u.b. = alstublieft | ca. = circa | incl. = inclusief"
                " | excl. = exclusief | St.^ = sint | tel. = telefoon | blz. = bladzijde | jl. = jongstleden"
                " | v.chr. = voor christus | n.chr. = na christus | mld. = miljard | mln. = miljoen"
            ),
        ),
        "cs": LanguageTable(
            symbols=_pairs("& = a | @ = zavináč | # = křížek | + = plus | = = rovná se | § = paragraf"),
            percent="n procento/procenta/procent",
            degree="m stupeň/stupně/stupňů",
            money=_pairs(
                "$ = m dolar/dolary/dolarů, m cent/centy/centů | € = n euro/eura/eur, m cent/centy/centů"
                " | £ = f libra/libry/liber, f pence | ¥ = m jen/jeny/jenů"
            ),
            minus="minus",
            to="až",
            endings=_pairs("m jedna = jeden | n jedna = jedno | n dva = dvě | f dva = dvě"),
            abbreviations=_pairs(
                "např. = například | atd. = a tak dále | apod. = a podobně | tj. = to jest | tzv. = takzvaný"
                " | mj. = mimo jiné | dr. = doktor | prof. = profesor | doc. = docent | ing. = inženýr"
                " | mgr. = magistr | mudr. = doktor | ul. = ulice | nám. = náměstí | č.# = číslo | str.# = strana"
                " | tel. = telefon | sv. = svatý | tis. = tisíc | mil. = milionů | mld. = miliard | cca = cirka"
                " | #hod. = hodin | #min. = minut | r.# = roku | stol. = století | př.n.l. = před naším letopočtem"
                " | n.l. = našeho letopočtu | #Kč = korun"
            ),
        ),
        "ar": LanguageTable(
            symbols=_pairs("& = و | @ = آت | # = رقم | + = زائد | = = يساوي"),
            percent="- بالمئة",
            degree="- درجة",
            money=_pairs("$ = - دولار, - سنت | € = - يورو, - سنت | £ = - جنيه, - بنس"),
            minus="سالب",
            to="إلى",
            cents="و",
            abbreviations=_pairs("د. = دكتور | أ.د. = أستاذ دكتور | ص.ب. = صندوق بريد | ق.م. = قبل الميلاد"),
        ),
        "zh": LanguageTable(
            symbols=_pairs("& = 和 | @ = 艾特 | # = 井号 | + = 加 | = = 等于"),
            percent="- 百分之",
            percent_first=True,
            degree="- 度",
            money=_pairs("$ = - 美元 | € = - 欧元 | £ = - 英镑 | ¥ = - 元 | ￥ = - 元"),
            minus="负",
            to="到",
        ),
        "hu": LanguageTable(
            symbols=_pairs("& = és | @ = kukac | # = kettőskereszt | + = plusz | = = egyenlő | § = paragrafus"),
            percent="m százalék",
            degree="m fok",
            money=_pairs("$ = m dollár, m cent | € = m euró, m cent | £ = m font, m penny | ¥ = m jen"),
            minus="mínusz",
            endings=_pairs("m kettő = két"),
            abbreviations=_pairs(
                "dr. = doktor | prof. = professzor | pl. = például | stb. = és így tovább | ill. = illetve"
                " | kb. = körülbelül | ún. = úgynevezett | vö. = vesd össze | ifj. = ifjabb | özv. = özvegy"
                " | u.# = utca | tel. = telefon | i.e. = időszámításunk előtt | kr.e. = krisztus előtt"
                " | kr.u. = krisztus után | #Ft = forint"
            ),
        ),
        "ko": LanguageTable(
            symbols=_pairs("& = 그리고 | @ = 골뱅이 | # = 샵 | + = 더하기 | = = 이퀄"),
            percent="- 퍼센트",
            degree="- 도",
            money=_pairs("$ = - 달러, - 센트 | € = - 유로, - 센트 | £ = - 파운드, - 펜스 | ¥ = - 엔 | ₩ = - 원"),
            minus="마이너스",
            to="에서",
        ),
        "ja": LanguageTable(
            symbols=_pairs("& = アンド | @ = アット | # = シャープ | + = プラス | = = イコール"),
            percent="- パーセント",
            degree="- 度",
            money=_pairs(
                "$ = - ドル, - セント | € = - ユーロ, - セント | £ = - ポンド, - ペンス | ¥ = - 円 | ￥ = - 円"
            ),
            minus="マイナス",
            to="から",
        ),
    }
)
"""The tables by code of language. English has a module of its own (`jaxvoice.text.normalize`)."""
