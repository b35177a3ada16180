"""tandem tokenize: texts as they are given, whatever they hold."""
import json

import pytest

HOSTILE = ["", " ", "-", "{}", "[a,b]", "[]", "info", "embed", "--", "%d", "a=b", "\x01", "\x02x", "caf\u00e9 \U0001F600",
           "line\nbreak", "\"quoted\"", "\\", "'", "--x y", "\u0130stanbul", "a,b", "$HOME", "\t"]


def ids(tandem, tiny, *args, **more):
    ran = tandem("tokenize", "--model", tiny, "--json", *args, **more)
    assert ran.code == 0, ran.err
    return ran.rows


def test_shape(tandem, tiny):
    config = json.loads((tiny / "config.json").read_text())["text_config"]
    rows = ids(tandem, tiny, "a cat", "two words", " ".join(["word"] * 200))
    assert [set(r) for r in rows] == [{"text", "ids", "truncated"}] * 3
    assert [r["truncated"] for r in rows] == [False, False, True]
    assert rows[0]["text"] == "a cat"
    for row in rows:
        assert row["ids"][-1] == config["eos_token_id"] and row["ids"][0] == config["bos_token_id"]
    assert len(rows[2]["ids"]) == config["max_position_embeddings"]


def test_context_length(tandem, tiny):
    row, = ids(tandem, tiny, "--context-length", 5, "a b c d e f g")
    assert len(row["ids"]) == 5 and row["truncated"]
    row, = ids(tandem, tiny, "--context-length", 200, " ".join(["a"] * 100))
    assert len(row["ids"]) == 102 and not row["truncated"]


def test_arguments_are_taken_as_they_are(tandem, tiny):
    rows = ids(tandem, tiny, "--", *HOSTILE)
    assert [r["text"] for r in rows] == HOSTILE
    rows = ids(tandem, tiny, *[t for t in HOSTILE if not t.startswith("--")])
    assert [r["text"] for r in rows] == [t for t in HOSTILE if not t.startswith("--")]


def test_files_and_arguments_agree(tandem, tiny, tmp_path):
    wanted = [r["ids"] for r in ids(tandem, tiny, "--", *HOSTILE)]
    objects = tmp_path / "t.jsonl"
    objects.write_text("".join(json.dumps({"text": t}) + "\n" for t in HOSTILE))
    assert [r["ids"] for r in ids(tandem, tiny, "--input", objects)] == wanted
    assert [r["ids"] for r in ids(tandem, tiny, "--input", "-", input=objects.read_text())] == wanted
    plain = [t for t in HOSTILE if "\n" not in t]
    lines = tmp_path / "t.txt"
    lines.write_bytes("\r\n".join(plain).encode())
    rows = ids(tandem, tiny, "--input", lines)
    assert [r["text"] for r in rows] == plain
    assert [r["ids"] for r in rows] == [w for w, t in zip(wanted, HOSTILE) if "\n" not in t]


def test_invalid_utf8_has_ids_and_valid_json(tandem, tiny, tmp_path):
    (tmp_path / "t.txt").write_bytes(b"a\xff\xfeb\n\xe2\x82\n")
    rows = ids(tandem, tiny, "--input", tmp_path / "t.txt")
    assert [r["text"] for r in rows] == ["a\ufffd\ufffdb", "\ufffd"]
    assert [r["ids"] for r in rows] == [r["ids"] for r in ids(tandem, tiny, "a\ufffd\ufffdb", "\ufffd")]


def test_a_malformed_line_fails_alone(tandem, tiny, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"text": "a"}\n{"text": \n{"text": 1}\n{"text": "b"}\n')
    ran = tandem("tokenize", "--model", tiny, "--json", "--input", tmp_path / "t.jsonl")
    assert ran.code == 3
    assert ["ids" in r for r in ran.rows] == [True, False, False, True]
    assert ran.rows[1]["error"]["code"] == "bad_data" and "line 2" in ran.rows[1]["error"]["message"]
    assert len(ran.error_lines) == 3 and "2 of 4" in ran.error_lines[-1]


@pytest.mark.parametrize("name", ["none.txt", "folder.txt"])
def test_files_that_cannot_be_read(tandem, tiny, tmp_path, name):
    (tmp_path / "folder.txt").mkdir()
    ran = tandem("tokenize", "--model", tiny, "--json", "--input", tmp_path / name)
    assert ran.code == 1 and len(ran.error_lines) == 1 and name in ran.err
    assert "code" in ran.rows[0]["error"]


def test_a_model_without_a_tokenizer_says_what_to_put_where(tandem, tiny, tmp_path):
    for file in tiny.iterdir():
        if file.name not in ("vocab.json", "merges.txt", "tokenizer.json"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    ran = tandem("tokenize", "--model", tmp_path, "a")
    assert ran.code == 1 and "vocab.json" in ran.err and len(ran.error_lines) == 1
    assert tandem("tokenize", "--model", tmp_path, "--vocab", tiny, "a").out == tandem("tokenize", "--model", tiny, "a").out


def test_for_people(tandem, tiny):
    ran = tandem("tokenize", "--model", tiny, "a cat")
    row, = ids(tandem, tiny, "a cat")
    assert ran.out == " ".join(map(str, row["ids"])) + "\n"


def test_many_lines_stream(tandem, tiny):
    ran = tandem("tokenize", "--model", tiny, "--json", "--input", "-", input="a cat\n" * 50_000)
    assert ran.code == 0 and ran.out.count("\n") == 50_000
