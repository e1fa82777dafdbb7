#!/usr/bin/env python3
"""semollm beside transformers and PEFT on the same CPU, in one interleaved run: 8 clips of 2-15 s through WavLM-base,
and a training step with LoRA on a SmolLM2-135M-shaped LLM behind it. Random weights, written once and read by both.

    tests/bench/peer.py PEER_BENCH [--rounds N] [--clips N] [--only wavlm|step]

PEER_BENCH is the program made of tests/model/peer_bench.c; tests/bench/peer.sh builds it and calls this. Each
contender is a process that loads its models, then does one round at a time when told, so that loading is in no
figure, all see the same machine, and each has its own peak memory. torch runs in both arrangements that its users
have: one clip at a time, and a padded batch; semollm's training step takes packed micro-batches of at most 320 tokens,
as `train.batch_tokens: 320` makes them."""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

SECONDS = [2.0, 4.0, 5.5, 7.0, 8.3, 9.0, 11.0, 15.0]
RATE, STACK, HIDDEN, RANK, ALPHA = 16000, 5, 2048, 16, 32
TEXT = 684  # tokens beside the speech rows of all clips: 1302 in all
ANSWER = 0.6  # share of a clip's text that bears loss
WAVLM, LLM, ADAPTER, BATCH = "wavlm", "llm", "adapter", "batch.safetensors"
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def frames_of(samples):
    for kernel, stride in zip((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)):
        samples = (samples - kernel) // stride + 1
    return samples


def rows_of(samples):
    return -(-frames_of(samples) // STACK)


# ---- models and batch, written once ----


def make_wavlm(folder):
    import torch
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

    torch.manual_seed(1)
    WavLMModel(WavLMConfig()).save_pretrained(folder)  # the default is base
    Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=False).save_pretrained(folder)


def make_llm(folder):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        intermediate_size=1536, max_position_embeddings=8192, rope_theta=100000.0, rms_norm_eps=1e-5,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)
    LlamaForCausalLM(config).save_pretrained(folder)


def make_adapter():
    import torch

    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(STACK * 768, HIDDEN), torch.nn.GELU(), torch.nn.Linear(HIDDEN, 576))


def load_peft(folder):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    torch.manual_seed(4)
    llm = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=PROJECTIONS, task_type="CAUSAL_LM")
    return get_peft_model(llm, lora)


def save_adapter(llm, folder):
    """What both sides start from, in the files that both read."""
    from safetensors.torch import save_file

    load_peft(llm).save_pretrained(folder)
    names = {"linear1": 0, "linear2": 2}
    adapter = make_adapter()
    tensors = {f"adapter.{name}.{kind}": getattr(adapter[i], kind).detach().contiguous()
               for name, i in names.items() for kind in ("weight", "bias")}
    settings = {"format": "pt", "stack": str(STACK), "hidden": str(HIDDEN), "prosody": "0", "prosody_scale": "0",
                "layers": "last"}
    save_file(tensors, folder / "speech_adapter.safetensors", metadata=settings)


def make_batch(path, clips):
    import torch
    from safetensors.torch import save_file

    random = torch.Generator().manual_seed(5)
    lengths = [int(s * RATE) for s in SECONDS[:clips]]
    rows = [rows_of(n) for n in lengths]
    text = TEXT * clips // len(SECONDS)
    ids, labels, cu = [], [], [0]
    for c, count in enumerate(rows):
        own = text // len(rows) + (1 if c < text % len(rows) else 0)
        answer = int(own * ANSWER)
        before = (own - answer) * 2 // 3
        words = torch.randint(3, 49152, (own,), generator=random).tolist()
        ids += words[:before] + [-1] * count + words[before:]
        labels += [-100] * (own - answer + count) + words[own - answer:]
        cu.append(len(ids))
    assert len(ids) == text + sum(rows) == len(labels)
    time_axis = torch.arange(sum(lengths)) / RATE
    wave = 0.1 * torch.sin(2 * torch.pi * 150 * time_axis) + 0.05 * torch.randn(sum(lengths), generator=random)
    save_file({
        "waveform": wave.float(), "wave_seqlens": torch.tensor(lengths),
        "cu_seqlens": torch.tensor(cu, dtype=torch.int32), "input_ids": torch.tensor(ids, dtype=torch.int32),
        "labels": torch.tensor(labels, dtype=torch.int32)}, path)


def prepare(root, clips):
    make_batch(root / BATCH, clips)
    if (root / "ready").exists():
        return
    make_wavlm(root / WAVLM)
    make_llm(root / LLM)
    save_adapter(root / LLM, root / ADAPTER)
    (root / "ready").touch()


# ---- torch's side: a worker process that does a round for every line on stdin ----


def load_batch(root):
    from safetensors.torch import load_file

    batch = load_file(root / BATCH)
    waves = batch["waveform"].split(batch["wave_seqlens"].tolist())
    cu = batch["cu_seqlens"].tolist()
    pieces = [(batch["input_ids"][a:b].long(), batch["labels"][a:b].long()) for a, b in zip(cu, cu[1:])]
    return waves, pieces


def encode(wavlm, waves, padded):
    """last_hidden_state of each clip. WavLM-base's extractor gives no mask (return_attention_mask false)."""
    import torch

    with torch.no_grad():
        if not padded:
            return [wavlm(w[None]).last_hidden_state[0] for w in waves]
        batch = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
        states = wavlm(batch).last_hidden_state
        return [states[i, :frames_of(len(w))] for i, w in enumerate(waves)]


def wavlm_round(wavlm, waves, padded):
    import torch

    states = torch.cat(encode(wavlm, waves, padded))
    return lambda: states.abs().double().mean().item()


class Step:
    def __init__(self, root, wavlm, waves, pieces, padded):
        import torch

        self.wavlm, self.waves, self.pieces, self.padded = wavlm, waves, pieces, padded
        self.adapter, self.llm = make_adapter(), load_peft(root / LLM)
        self.count = sum(int((labels >= 0).sum()) for _, labels in pieces)
        self.trainable = [p for p in [*self.adapter.parameters(), *self.llm.parameters()] if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trainable, lr=1e-4, weight_decay=0.0)
        self.llm.train()

    def embed(self, ids, states):
        """Text embeddings with the adapter's rows at the -1s."""
        import torch

        missing = -len(states) % STACK
        stacked = torch.nn.functional.pad(states, (0, 0, 0, missing)).reshape(-1, STACK * states.shape[1])
        embedded = self.llm.get_input_embeddings()(ids.clamp(min=0))
        return embedded.masked_scatter((ids < 0)[:, None], self.adapter(stacked))

    def losses(self):
        """A padded batch's loss, or one clip's after the other."""
        import torch

        states = encode(self.wavlm, self.waves, self.padded)
        if not self.padded:
            for (ids, labels), clip in zip(self.pieces, states):
                yield self.loss(self.embed(ids, clip)[None], labels[None], None)
            return
        pad = torch.nn.utils.rnn.pad_sequence
        embedded = pad([self.embed(ids, clip) for (ids, _), clip in zip(self.pieces, states)], batch_first=True)
        labels = pad([labels for _, labels in self.pieces], batch_first=True, padding_value=-100)
        mask = pad([torch.ones(len(ids), dtype=torch.long) for ids, _ in self.pieces], batch_first=True)
        yield self.loss(embedded, labels, mask)

    def loss(self, embedded, labels, mask):
        """Their share of the mean over all response tokens of the step."""
        share = int((labels >= 0).sum()) / self.count
        return self.llm(inputs_embeds=embedded, attention_mask=mask, labels=labels).loss * share

    def round(self):
        import torch

        total = 0.0
        for loss in self.losses():
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.trainable, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return lambda: total


def work(root, what, padded):
    import torch
    from transformers import WavLMModel

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    waves, pieces = load_batch(root)
    wavlm = WavLMModel.from_pretrained(root / WAVLM, dtype=torch.float32).eval()
    if what == "wavlm":
        def run():
            return wavlm_round(wavlm, waves, padded)
    else:
        run = Step(root, wavlm, waves, pieces, padded).round
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.monotonic()
        number = run()
        seconds = time.monotonic() - began
        print(f"{seconds:.6f} {number():.9g}", flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


# ---- the run ----


class Contender:
    def __init__(self, name, command):
        self.name, self.seconds, self.numbers = name, [], []
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(f"{name} did not start")

    def round(self, counted):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds, number = map(float, self.process.stdout.readline().split())
        self.numbers.append(number)
        if counted:
            self.seconds.append(seconds)
        time.sleep(0.2)  # for spinning threads to sleep

    def finish(self):
        out, _ = self.process.communicate()
        self.gib = int(out.split()[-1]) / 2**20


def compete(what, root, peer_bench, rounds):
    folders = [root / WAVLM] if what == "wavlm" else [root / WAVLM, root / LLM, root / ADAPTER]
    me = [sys.executable, __file__, "--worker", root, what]
    contenders = [Contender("semollm, packed", [peer_bench, what, *folders, root / BATCH]),
                  Contender("torch, one by one", [*me, "single"]), Contender("torch, padded", [*me, "padded"])]
    for i in range(rounds + 1):  # the first warms up
        for contender in contenders:
            contender.round(counted=i > 0)
    for contender in contenders:
        contender.finish()
    return contenders


def report(what, contenders, clips):
    title = {"wavlm": "WavLM-base forward", "step": "LoRA step, SmolLM2-135M shape, all seven projections, r=16"}
    print(f"\n{title[what]} ({clips} clips, {sum(SECONDS[:clips]):.1f} s of audio)")
    print(f"{'':20}{'median s':>10}{'min s':>10}{'max s':>10}{'peak GiB':>10}  {'output' if what == 'wavlm' else 'losses'}")
    for c in contenders:
        numbers = " ".join(f"{n:.5f}" for n in (c.numbers[:1] if what == "wavlm" else c.numbers))
        print(f"{c.name:20}{statistics.median(c.seconds):10.3f}{min(c.seconds):10.3f}{max(c.seconds):10.3f}"
              f"{c.gib:10.2f}  {numbers}")
    ours, single, padded = contenders
    pairs = [min(a, b) / o for o, a, b in zip(ours.seconds, single.seconds, padded.seconds)]
    faster = min((single, padded), key=lambda c: statistics.median(c.seconds))
    print(f"speed beside torch's faster arrangement, median of {len(pairs)} rounds: {statistics.median(pairs):.2f}x")
    print(f"peak memory beside that of {faster.name}: {ours.gib / faster.gib:.2f}x")
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours.numbers, single.numbers))
    print(f"largest relative difference of {'outputs' if what == 'wavlm' else 'losses'}, one by one: {worst:.1e}")
    return {"what": what, "speed": statistics.median(pairs), "memory": ours.gib / faster.gib, "difference": worst,
            "contenders": {c.name: {"seconds": c.seconds, "gib": c.gib} for c in contenders}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer_bench", nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, choices=range(1, len(SECONDS) + 1), default=len(SECONDS))
    parser.add_argument("--only", choices=["wavlm", "step"])
    parser.add_argument("--folder", help="keep the models here")
    parser.add_argument("--json", help="write the figures here too")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(pathlib.Path(args.worker[0]), args.worker[1], args.worker[2] == "padded")
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(args.folder or scratch)
        root.mkdir(exist_ok=True)
        prepare(root, args.clips)
        bench = pathlib.Path(args.peer_bench).resolve()
        results = [report(what, compete(what, root, bench, args.rounds), args.clips)
                   for what in ([args.only] if args.only else ["wavlm", "step"])]
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
