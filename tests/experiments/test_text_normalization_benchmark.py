"""The comparison with the suite of NeMo-text-processing, on a checkout with cases of the same form."""

import json

import pytest

from experiments.benchmarks.text_normalization import FOLDER, Case, Options, comparable, convention_of, main, read_cases

CASES = {
    "test_cases_money.txt": "$5~five dollars\n$7.20~seven dollars twenty cents\n$3~three euros\n\n",
    "test_cases_time.txt": "5 pm~five PM\n" + "6 pm~six PM\n" * 15 + "13:00~thirteen o'clock\nя~ya\n",
    "test_cases_normalize_with_audio.txt": "~7\neight\nseven\n~~9\nnine\n",
}


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / FOLDER).mkdir(parents=True)
    for name, lines in CASES.items():
        (tmp_path / FOLDER / name).write_text(lines, encoding="utf-8")
    return tmp_path


def test_cases_are_read_with_all_readings(checkout):
    cases = read_cases(checkout)
    assert len(cases) == 23
    assert Case("normalize_with_audio", "7", ("eight", "seven")) in cases
    assert Case("normalize_with_audio", "~9", ("nine",)) in cases


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("five P M.", "five PM"),
        ("One hundred and two,", "one hundred two"),
        ("twenty-one", "twenty one"),
    ],
)
def test_case_punctuation_and_spelling_are_ignored(one, other):
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(("one", "other"), [("a man", "aman"), ("hkone", "H K one"), ("one", "two")])
def test_other_words_differ(one, other):
    assert comparable(one) != comparable(other)


def test_conventions_have_a_reason_and_leave_out_their_cases_only():
    clock = convention_of(Case("time", "23:00", ("twenty three o'clock",)))
    assert clock is not None and "o'clock" in clock.reason
    assert convention_of(Case("time", "3:00", ("three o'clock",))) is None
    assert convention_of(Case("ordinal", "21th", ("twenty one th",))) is not None
    assert convention_of(Case("ordinal", "121st 11th 3rd", ("",))) is None


def test_the_report_has_both_rates_and_the_other_cases(checkout, tmp_path, capsys):
    main(Options(checkout=checkout, json=tmp_path / "out.json"))
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    rates = {row["kind"]: (row["alike"], row["cases"]) for row in found["rows"] if "kind" in row}
    assert rates["money"] == (2, 3) and rates["normalize_with_audio"] == (1, 2)
    assert rates["all"] == (19, 23) and rates["all without conventions"] == (19, 22)
    assert {row["text"] for row in found["different"]} == {"$3", "13:00", "я", "~9"}
    assert "three dollars" in capsys.readouterr().out


def test_error_if_the_conventions_leave_out_too_much(checkout):
    (checkout / FOLDER / "test_cases_ordinal.txt").write_text("21th~x\n22th~x\n23th~x\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="at most a tenth"):
        main(Options(checkout=checkout))


def test_error_for_another_folder(tmp_path):
    with pytest.raises(SystemExit, match="it should be a checkout of NVIDIA/NeMo-text-processing"):
        read_cases(tmp_path)
