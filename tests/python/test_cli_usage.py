"""The command line as a contract: help, versions, mistakes, exit codes, variables."""
import json
import os
import re
import subprocess

import pytest

COMMANDS = ["info", "tokenize", "preprocess", "embed", "classify", "search", "bench", "verify", "calibrate", "serve"]
ALL = [*COMMANDS, "loadtest"]  # one that has no model


def is_mistake(ran, words):
    assert ran.code == 2, ran.err
    assert 1 <= len(ran.error_lines) <= 3
    assert words in ran.error_lines[0]
    assert "--help" in ran.err
    assert ran.out == ""


def test_version(tandem):
    ran = tandem("--version")
    assert ran.code == 0
    assert re.search(r"tandem \d+\.\d+\.\d+", ran.out) and "commit" in ran.out and "cpu" in ran.out
    row, = tandem("--version", "--json").rows
    assert set(row) == {"version", "commit", "backends"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(tandem, command):
    ran = tandem(command, "--help")
    assert ran.code == 0 and ran.err == ""
    assert f"tandem {command}" in ran.out.split("Example:")[1]
    for flag in ("--model", "--device", "--precision", "--threads", "--json", "--quiet", "--log-level", "--vocab",
                 "--reference", "--exif", "--cleaning"):
        assert flag in ran.out


def test_every_flag_names_its_variable(tandem):
    for command in ALL:
        for flag, rest in re.findall(r"^  (?:-h,)?(--[a-z-]+)(.*)$", tandem(command, "--help").out, re.M):
            if flag != "--help":
                assert f"Env:TANDEM_{flag[2:].upper().replace('-', '_')})" in rest, (command, flag)


def test_the_program_lists_its_commands(tandem):
    ran = tandem("--help")
    assert ran.code == 0
    for command in ALL:
        assert re.search(rf"^  {command} ", ran.out, re.M)


@pytest.mark.parametrize("args, words", [
    ([], "no command"),
    (["nosuch"], "nosuch"),
    (["--nosuch"], "--nosuch"),
    (["embed", "--nosuch"], "--nosuch"),
    (["embed", "stray"], "stray"),
    (["embed"], "nothing to embed"),
    (["embed", "--images"], "--images"),
    (["embed", "--precision", "fp7"], "fp7"),
    (["embed", "--device", "tpu"], "tpu"),
    (["embed", "--batch", "0", "--images", "x"], "--batch 0"),
    (["embed", "--batch", "3x", "--images", "x"], "3x"),
    (["embed", "--batch", "99999999999999999999", "--images", "x"], "out of range"),
    (["embed", "--threads", "-1", "--images", "x"], "--threads"),
    (["embed", "--images", "x", "--output", "x.txt"], "x.txt"),
    (["embed", "--images", "-", "--texts", "-"], "standard input"),
    (["embed", "--texts", "words.csv"], ".csv"),
    (["embed", "--feature", "raw", "--images", "x"], "raw"),
    (["tokenize"], "nothing to tokenize"),
    (["tokenize", "a", "--input", "b.txt"], "not both"),
    (["tokenize", "a", "--context-length", "1"], "--context-length"),
    (["preprocess"], "no pictures"),
    (["preprocess", "x", "--reference", "pil"], "pil"),
    (["preprocess", "x", "--exif", "maybe"], "maybe"),
    (["classify"], "no pictures"),
    (["classify", "x", "--labels", " , "], "--labels"),
    (["search"], "no query"),
    (["search", "x"], "no pictures"),
    (["bench", "--what", "sound"], "sound"),
    (["bench", "--min-seconds", "nan"], "--min-seconds"),
    (["bench", "--json=perhaps"], "json"),
    (["info", "--log-level", "loud"], "loud"),
    (["serve", "--port", "70000"], "--port"),
])
def test_mistakes_are_one_line_and_a_hint(tandem, args, words):
    is_mistake(tandem(*args), words)


@pytest.mark.parametrize("args", [["embed", "--json"], ["embed", "--json", "--precision", "fp7"], ["nosuch", "--json"]])
def test_mistakes_with_json_are_told_on_both_streams(tandem, args):
    ran = tandem(*args)
    assert ran.code == 2
    row, = ran.rows
    assert row["error"]["code"] == "invalid_argument"
    assert row["error"]["message"] in ran.err


def test_failures_with_json_carry_their_code(tandem, tmp_path):
    ran = tandem("info", "--model", tmp_path / "none", "--json")
    assert ran.code == 1
    row, = ran.rows
    assert row["error"]["code"] == "not_found" and str(tmp_path / "none") in row["error"]["message"]
    assert len(ran.error_lines) == 1


def test_no_such_model(tandem, tmp_path):
    for command in (["info"], ["tokenize", "a"], ["preprocess", "x"], ["embed", "--images", "x"], ["classify", "x"],
                    ["search", "q", "--images", "x"], ["bench"]):
        ran = tandem(*command, "--model", tmp_path / "none")
        assert ran.code == 1, command
        assert len(ran.error_lines) == 1 and "none" in ran.err and ran.out == ""


def test_flags_come_from_the_environment(tandem, tiny):
    variables = {"TANDEM_MODEL": str(tiny), "TANDEM_JSON": "1"}
    row, = tandem("info", env=variables).rows
    assert row["model"] == str(tiny)
    assert tandem("info", env={**variables, "TANDEM_JSON": "off"}).out.startswith("model")
    ids = tandem("tokenize", "a b c d e f", env={**variables, "TANDEM_CONTEXT_LENGTH": "4"}).rows[0]["ids"]
    assert len(ids) == 4


def test_a_flag_goes_before_its_variable(tandem, tiny):
    row, = tandem("info", "--json", "--model", tiny, env={"TANDEM_MODEL": "/none"}).rows
    assert row["model"] == str(tiny)


def test_a_bad_variable_is_a_mistake(tandem):
    is_mistake(tandem("info", env={"TANDEM_PRECISION": "fp7"}), "fp7")
    is_mistake(tandem("info", env={"TANDEM_QUIET": "perhaps"}), "quiet")


def test_an_empty_variable_counts_as_absent(tandem, tiny):
    assert tandem("info", "--model", tiny, env={"TANDEM_PRECISION": ""}).code == 0


def test_a_flag_given_twice_counts_as_given_last(tandem, tiny):
    row, = tandem("info", "--json", "--model", "/none", "--model", tiny).rows
    assert row["model"] == str(tiny)


def test_a_full_disk_is_told(tandem, tiny):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        ran = subprocess.run([tandem.path, "info", "--model", tiny], stdout=full, stderr=subprocess.PIPE, text=True)
    assert ran.returncode == 1 and "standard output" in ran.stderr


def test_info(tandem, tiny):
    row, = tandem("info", "--model", tiny, "--json").rows
    assert {"model", "layout", "architecture", "parameters", "bytes", "preprocess", "devices", "isa"} <= set(row)
    config = json.loads((tiny / "config.json").read_text())
    assert row["layout"] == "huggingface"
    assert row["architecture"]["embed_dim"] == config["projection_dim"]
    assert row["architecture"]["vision"]["width"] == config["vision_config"]["hidden_size"]
    assert row["architecture"]["text"]["layers"] == config["text_config"]["num_hidden_layers"]
    assert row["preprocess"]["mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert row["architecture"]["text"]["norm_eps"] == config["text_config"].get("layer_norm_eps", 1e-5)
    # float32 weights: the header says how long they are, and each parameter has four bytes.
    with open(tiny / "model.safetensors", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert row["bytes"] == max(t["data_offsets"][1] for n, t in header.items() if n != "__metadata__")
    assert row["bytes"] == 4 * row["parameters"]
    assert row["devices"][0]["device"] == "cpu" and row["isa"] == row["devices"][0]["isa"]


def test_info_of_published_shapes(tandem):
    for name, parameters, dim in (("ViT-B-32", 151_277_313, 512), ("ViT-L-14-336", 427_944_193, 768)):
        row, = tandem("info", "--model", "random:" + name, "--json").rows
        assert row["parameters"] == parameters and row["architecture"]["embed_dim"] == dim


def test_info_tokenize_and_preprocess_need_no_weights(tandem, tiny, tmp_path):
    from PIL import Image

    for file in tiny.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    Image.new("RGB", (30, 20)).save(tmp_path / "p.png")
    row, = tandem("info", "--model", tmp_path, "--json").rows
    assert row["bytes"] is None and row["parameters"] > 0
    assert tandem("tokenize", "--model", tmp_path, "a").code == 0
    assert tandem("preprocess", "--model", tmp_path, tmp_path / "p.png").code == 0
    assert tandem("embed", "--model", tmp_path, "--images", tmp_path / "p.png").code == 1


@pytest.mark.parametrize("variable, value, says", [
    ("TANDEM_TOP", "x", "TANDEM_TOP: --top 'x' is not a whole number"),
    ("TANDEM_DEVICE", "gpu", "TANDEM_DEVICE: device 'gpu' is unknown"),
    ("TANDEM_JSON", "maybe", "TANDEM_JSON: --json 'maybe' is neither true nor false"),
    ("TANDEM_LOG_LEVEL", "loud", "TANDEM_LOG_LEVEL: log level 'loud' is unknown"),
])
def test_a_mistake_in_a_variable_names_it(tandem, variable, value, says):
    is_mistake(tandem("classify", "a.png", env={variable: value}), says)


def test_a_mistake_in_a_flag_names_no_variable(tandem):
    ran = tandem("classify", "a.png", "--top", "x", env={"TANDEM_TOP": "3"})
    assert ran.code == 2 and "TANDEM_TOP" not in ran.err
    assert tandem("info", "--json=no", env={"TANDEM_JSON": "true"}).code == 0


def test_messages_are_utf8_whatever_a_name_holds(tandem, tmp_path):
    ran = tandem("preprocess", os.fsencode(tmp_path).decode() + "/caf\udce9\n\x1b[31m.png")
    assert ran.code == 3
    assert "caf\\xE9  [31m.png" in ran.err and "\x1b" not in ran.err


def test_a_json_librarys_own_words_stay_inside(tandem, tiny):
    ran = tandem("tokenize", "--model", tiny, "--input", "-", "--text-format", "jsonl", input='{"text": 1e999}\n{"text"\n')
    assert ran.code == 3
    assert "json.exception" not in ran.err and "out of range" in ran.err and "not valid JSON" in ran.err
