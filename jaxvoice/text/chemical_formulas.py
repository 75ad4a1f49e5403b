"""Spell chemical formulas: `CO2` becomes `C O two`, `Fe2O3` becomes `F E two O three`."""

import re

from jaxvoice.text.numbers import cardinal

_ELEMENTS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo"
    " Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Nd Sm Eu Gd Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Rn Ra Th U Pu"
)
ELEMENTS = frozenset(_ELEMENTS.split())
_KNOWN = (
    "CO2 CO3 NO2 NO3 SO2 SO3 SO4 PO4 H2 N2 O2 O3 F2 I2 CH3 CH4 NH3 NH4 H2O D2O H2S HNO2 HNO3 HClO4 CS2 BF3 PF5 PF6 SF6"
    " UF6 WO3 BO3 OF2 KNO3 K2O N2O NF3 PH3 HCO3 KIO3 KI3"
    " NaCl KCl HCl NaOH HBr HCN HF LiCl AgCl NaF MgO CaO ZnO CuO NiO TiO SiO SiC GaN GaAs CdTe ZnS PbS FeS NaI AgI AgBr"
)
KNOWN = frozenset(_KNOWN.split())
"""Formulas that are spelled although their capitals could also be a word or an acronym, and formulas without digits."""

PIECE = r"[A-Z][a-z]?\d{0,2}"
FORMULA = re.compile(
    rf"(?<![A-Za-z0-9'.])(\d{{1,2}})?((?:{PIECE}|\((?:{PIECE}){{1,4}}\)\d{{1,2}}){{1,12}})(\d?\+)?(?![A-Za-z0-9]|\.\d|\+\w)"
)
SYMBOL_OR_COUNT = re.compile(r"([A-Z][a-z]?)|(\d+)|([()])")
ION = re.compile(r"[A-Z][a-z]?\d?")


def expand_formulas(text: str) -> str:
    """Spell the chemical formulas of folded `text`, and `pH`.

    A formula has two or more elements, and at least two counts or a symbol of two letters. Other formulas, such as
    `CO2`, are spelled if they are `KNOWN`, since `COP26` has the same form.
    """
    return FORMULA.sub(_formula, re.sub(r"\bpH\b", "P H", text))


def _formula(match: re.Match[str]) -> str:
    count, formula, charge = match[1], match[2], match[3]
    pieces = SYMBOL_OR_COUNT.findall(formula)
    symbols = [symbol for symbol, _, _ in pieces if symbol]
    counts = [digits for _, digits, _ in pieces if digits]
    if not ELEMENTS.issuperset(symbols) and formula not in KNOWN:
        return match[0]
    if charge and ION.fullmatch(formula) and len(symbols[0]) == 2:
        is_formula = bool(counts) or charge[0].isdigit()
    else:
        is_formula = len(symbols) > 1 and bool(counts) and (len(counts) > 1 or max(map(len, symbols)) > 1)
        is_formula &= all(digits[0] != "0" and digits != "1" for digits in counts)
    if not is_formula and formula not in KNOWN:
        return match[0]
    words = [" ".join(symbol.upper()) or (cardinal(int(digits)) if digits else "") for symbol, digits, _ in pieces]
    if charge:
        words += [cardinal(int(charge[0]))] if charge[0].isdigit() else []
        words.append("plus")
    return " ".join(filter(None, [cardinal(int(count)) if count else "", *words]))
