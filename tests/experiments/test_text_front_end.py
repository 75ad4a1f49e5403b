"""Counts of words by source, on sentences with known words."""

import json

import pytest

from experiments.benchmarks.text_front_end import Options, count, main, rows_of, texts_of
from jaxvoice.data import write_wav

# "unwholesomeness" is derived from "wholesome", "blorfing" from no word; "xkcd" has no vowel.
SENTENCE = "The blorfing cat's unwholesomeness, said xkcd."


def test_every_word_is_counted_once_by_source() -> None:
    counted = count([SENTENCE, "{HH AY1} cat, the cat"])
    assert counted.words == {"dictionary": 6, "morphology": 1, "letters": 1, "spelled": 1}
    ((word, source, phonemes), times), *others = counted.guessed.most_common()
    assert (word, source, times) == ("blorfing", "letters", 1) and phonemes.split()[:2] == ["B", "L"]
    assert [entry[0][:2] for entry in others] == [("xkcd", "spelled")]


def test_texts_that_cannot_be_pronounced_are_reported() -> None:
    counted = count(["a cat", "кот", "..."])
    assert counted.words.total() == 2 and len(counted.rejected) == 2
    assert "кот" in counted.rejected[0] and "nothing to pronounce" in counted.rejected[1]


def test_shares_add_up() -> None:
    *sources, resolved = rows_of(count([SENTENCE] * 3))
    assert sum(row["share %"] for row in sources) == pytest.approx(100)
    assert resolved["words"] == sum(row["words"] for row in sources if row["found"] != "spelled")
    assert next(row for row in sources if row["found"] == "letters")["different words"] == 1


def test_a_corpus_or_a_file_of_texts_is_read(tmp_path) -> None:
    (tmp_path / "wavs").mkdir()
    for name in ("a", "b"):
        write_wav(tmp_path / "wavs" / f"{name}.wav", [0.0] * 64, 22050)
    (tmp_path / "metadata.csv").write_text("a|Dr. No|Doctor No\nb|4 cats|four cats\n", encoding="utf-8")
    wanted = ["Doctor No", "four cats"]
    assert list(texts_of(Options(data=tmp_path))) == list(texts_of(Options(texts=tmp_path / "metadata.csv"))) == wanted
    assert list(texts_of(Options(texts=tmp_path / "metadata.csv", field=2))) == ["Dr. No", "4 cats"]
    with pytest.raises(SystemExit, match="--field is 4; it should be"):
        texts_of(Options(texts=tmp_path / "metadata.csv", field=4))
    (tmp_path / "empty.txt").write_text("\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="has no texts"):
        texts_of(Options(texts=tmp_path / "empty.txt"))
    with pytest.raises(SystemExit, match="either --data"):
        texts_of(Options())


def test_the_report_lists_predicted_words(tmp_path, capsys) -> None:
    (tmp_path / "texts.txt").write_text(f"{SENTENCE}\n", encoding="utf-8")
    main(Options(texts=tmp_path / "texts.txt", list=1, json=tmp_path / "out.json"))
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [row["words"] for row in found["rows"]] == [3, 1, 1, 1, 5] and found["words_per_second"] > 0
    assert {entry["word"] for entry in found["guessed"]} == {"blorfing", "xkcd"}
    out = capsys.readouterr().out
    assert "blorfing" in out and "... and 1 more" in out
