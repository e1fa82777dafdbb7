"""Trains the tiny LLM's tokenizer and the LLM, on templated text alone: bags of cue words in, the answer out.

Cues and emotion are drawn independently: it learns the answer's format and what words mean, and no link between
how someone speaks and what they feel. Writes a Hugging Face folder."""

import argparse
import os
import time

import numpy as np
import tokenizers
import torch
import transformers

WORDS = {
    "gender": {"female": ["woman", "lady", "girl", "female"], "male": ["man", "gentleman", "boy", "male"]},
    "pitch": {"low": ["deep", "low"], "normal": ["mid", "medium"], "high": ["shrill", "high"]},
    "speed": {"slow": ["slow", "dragging"], "normal": ["steady", "walking"], "fast": ["fast", "hurried"]},
    "volume": {"quiet": ["quiet", "soft"], "normal": ["moderate", "even"], "loud": ["loud", "shouting"]},
    "emotion": {"angry": ["furious", "mad", "angry"], "happy": ["glad", "cheerful", "happy"],
                "neutral": ["plain", "neutral", "indifferent"], "sad": ["unhappy", "gloomy", "sad"]},
}
FILLER = ["sound", "breath", "voice", "word", "hum", "tone", "silence", "noise", "vowel", "speech"]
NOUN = {"angry": "anger", "happy": "happiness", "neutral": "a neutral state", "sad": "sadness"}
TYPICAL = {"angry": (1, 1, 1), "happy": (1, 1, 1), "neutral": (0, 0, 0), "sad": (-1, -1, -1)}
CUES = ["pitch", "speed", "volume"]
PROMPT = "Describe how it is said."
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
           r"|\s+(?!\S)|\s+")


def explanation(rng, facts):
    """The same sentences as data/explanation.c's."""
    pick = lambda *choices: choices[rng.integers(len(choices))]
    female = facts["gender"] == "female"
    subject = pick(*(("the woman", "the female speaker") if female else ("the man", "the male speaker")))
    pronoun, own, them = ("she", "her", "her") if female else ("he", "his", "him")
    names = {"pitch": ("pitch", "pitch"), "speed": ("speed", "pace"), "volume": ("volume", "volume")}
    links = {"pitch": "with", "speed": "at", "volume": "at"}
    order = list(rng.permutation(CUES))
    noun = lambda cue: f"a {facts[cue]} {pick(*names[cue])}"
    said = lambda cue: pick("speed", "speaking speed", "pace") if cue == "speed" else cue
    clause = lambda cue: f"{pick(own, 'the')} {said(cue)} is {facts[cue]}"
    manner = lambda cue: f"{links[cue]} {noun(cue)}"
    def listed(form):
        parts = [form(cue) for cue in order]
        return ", ".join(parts[:-1]) + " and " + parts[-1]
    emotion, sounds = facts["emotion"], pick("sounds", "seems", "comes across as")
    text = [
        lambda: f"{subject} {sounds} {emotion}: {listed(clause)}",
        lambda: f"with {listed(noun)}, {subject} {sounds} {emotion}",
        lambda: f"{listed(noun)} {pick('suggest', 'indicate')} that {subject} is {emotion}",
        lambda: f"{listed(clause)}, which makes {them} sound {emotion}",
        lambda: f"{subject} speaks {listed(manner)}, and so {pronoun} {pick('sounds', 'seems')} {emotion}",
        lambda: f"{subject} {sounds} {emotion}, because {pronoun} speaks {listed(manner)}",
    ][rng.integers(6)]()
    text = text[0].upper() + text[1:] + "."
    return text + (" " + reason(rng, facts, order) if rng.integers(3) else "")


def reason(rng, facts, order):
    direction = lambda cue: list(WORDS[cue]).index(facts[cue]) - 1
    typical = dict(zip(CUES, TYPICAL[facts["emotion"]]))
    fitting = [f"the {facts[cue]} {cue}" for cue in order if direction(cue) == typical[cue]]
    if not fitting:
        start = ["These cues alone would not suggest", "None of this is typical of"][rng.integers(2)]
        return f"{start} {NOUN[facts['emotion']]}, so the impression rests on the tone of voice."
    verbs = ["are typical of", "fit", "go with"] if len(fitting) > 1 else ["is typical of", "fits", "goes with"]
    several = ", ".join(fitting[:-1]) + " and " + fitting[-1] if len(fitting) > 1 else fitting[0]
    text = f"{several} {verbs[rng.integers(3)]} {NOUN[facts['emotion']]}."
    return text[0].upper() + text[1:]


def example(rng):
    facts = {cue: rng.choice(list(values)) for cue, values in WORDS.items()}
    bag = [rng.choice(WORDS[cue][value]) for cue, value in facts.items() for _ in range(rng.integers(1, 3))]
    bag += list(rng.choice(FILLER, rng.integers(2, 12)))
    answer = " ".join(f"{cue.capitalize()}: {facts[cue]}." for cue in ("gender", *CUES, "emotion"))
    before = f"<|im_start|>user\n{' '.join(rng.permutation(bag))}\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
    return before, f"{answer} Explanation: {explanation(rng, facts)}<|im_end|>"


def train_tokenizer(rng, folder):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated"),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=512, special_tokens=SPECIAL, show_progress=False,
                                             initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    texts = ["".join(example(rng)) for _ in range(4000)]
    for special in SPECIAL:
        texts = [t.replace(special, " ") for t in texts]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    return tokenizer


def batch(rng, tokenizer, size):
    rows = []
    for _ in range(size):
        before, answer = (tokenizer.encode(t, add_special_tokens=False).ids for t in example(rng))
        rows.append((before + answer, [-100] * len(before) + answer))
    width = max(len(ids) for ids, _ in rows)
    pad = lambda values, fill: torch.tensor([v + [fill] * (width - len(v)) for v in values])
    return pad([r[0] for r in rows], 0), pad([r[1] for r in rows], -100)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch", type=int, default=24)
    args = parser.parse_args()
    os.makedirs(args.output, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(11)
    rng = np.random.default_rng(11)
    tokenizer = train_tokenizer(rng, args.output)
    stop = tokenizer.token_to_id("<|im_end|>")
    config = transformers.LlamaConfig(
        vocab_size=512, hidden_size=128, intermediate_size=288, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, rms_norm_eps=1e-5, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=stop, pad_token_id=tokenizer.token_to_id("<|endoftext|>"))
    model = transformers.LlamaForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, args.steps, pct_start=0.08)
    print(sum(p.numel() for p in model.parameters()), "parameters", flush=True)
    began = time.time()
    for step in range(args.steps):
        ids, labels = batch(rng, tokenizer, args.batch)
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            print(step + 1, f"{time.time() - began:.0f} s loss {loss.item():.3f}, {ids.shape[1]} tokens", flush=True)
    model.eval().bfloat16().save_pretrained(args.output)
    transformers.GenerationConfig(eos_token_id=stop, pad_token_id=config.pad_token_id).save_pretrained(args.output)
    before, answer = example(rng)
    ids = torch.tensor([tokenizer.encode(before, add_special_tokens=False).ids])
    out = model.generate(ids, max_new_tokens=120, do_sample=False)[0, ids.shape[1]:]
    print(before, "\nexpected:", answer, "\nsaid:    ", tokenizer.decode(out.tolist(), skip_special_tokens=False))


if __name__ == "__main__":
    main()
