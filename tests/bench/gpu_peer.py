#!/usr/bin/env python3
"""transformers and PEFT on the GPU, at the shapes and clips that tests/gpu/steps takes: random weights made on the
device, LoRA of rank 16 on every projection, clips of 1 to 15 s.

    tests/bench/gpu_peer.py [--device cuda] [--encoder DIR] [--llm DIR] [--tokens N] [--parts step,encoder,generate,
                            attention] [--seconds S]

A step is timed in both arrangements that its users have:
  padded  8 clips at a time, padded to the longest, logits of every position: how such models are trained
  packed  its best: all clips in one row without padding, torch's own flash attention over variable lengths, logits of
          response rows alone
and generation as generate() does it, and attention alone. A line of JSON each, with peak memory. Tokens are real ones,
padding not counted. A part that takes longer than --seconds is cut short and says how many rounds it has."""

import argparse
import gc
import json
import math
import pathlib
import statistics
import sys
import time

RATE, STACK, HIDDEN, RANK, PROMPT, ANSWER = 16000, 5, 2048, 16, 50, 60
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
GOLDEN = 0.6180339887498949


def say(**line):
    print(json.dumps(line), flush=True)


def samples_of(clip):
    return int((1 + 14 * math.fmod(clip * GOLDEN, 1)) * RATE)


def frames_of(samples):
    for kernel, stride in zip((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)):
        samples = (samples - kernel) // stride + 1
    return samples


def rows_of(samples):
    return -(-frames_of(samples) // STACK)


def clips_of(tokens, shorter, most=10 ** 9):
    """Samples of as many clips as fit."""
    clips, total = [], 0
    while len(clips) < most:
        samples = samples_of(len(clips)) // shorter
        count = PROMPT + rows_of(samples) + ANSWER
        if clips and total + count > tokens:
            return clips
        clips.append(samples)
        total += count
    return clips


class Peer:
    def __init__(self, options):
        import torch

        self.torch, self.options, self.device = torch, options, options.device
        self.name = pathlib.Path(options.llm).name
        self.small = options.tokens < 2048
        self.dtype = torch.float32 if self.device == "cpu" else torch.bfloat16
        torch.manual_seed(1)

    # ---- models ----

    def encoder(self):
        from transformers import WavLMConfig, WavLMModel

        with self.torch.device(self.device):
            model = WavLMModel(WavLMConfig.from_pretrained(self.options.encoder)).to(self.dtype)
        return model.eval().requires_grad_(False)

    def llm(self, attention, lora=True):
        from peft import LoraConfig, get_peft_model
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.from_pretrained(self.options.llm)
        with self.torch.device(self.device):
            model = AutoModelForCausalLM.from_config(config, dtype=self.dtype, attn_implementation=attention)
        if not lora:
            return model.eval()
        settings = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=PROJECTIONS, task_type="CAUSAL_LM")
        return get_peft_model(model, settings).train()

    def adapter(self, width, out):
        nn = self.torch.nn
        net = nn.Sequential(nn.Linear(STACK * width, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, out))
        return net.to(self.device)

    # ---- a step ----

    def autocast(self):
        return self.torch.autocast(self.device, dtype=self.torch.bfloat16, enabled=self.device != "cpu")

    def waves(self, clips):
        return [0.1 * self.torch.randn(n, device=self.device) for n in clips]

    def encode(self, encoder, waves):
        """Hidden states of each clip; padded in groups of eight, the way a feature extractor hands them over."""
        torch, states = self.torch, []
        with torch.no_grad(), self.autocast():
            for first in range(0, len(waves), 8):
                group = waves[first:first + 8]
                batch = torch.nn.utils.rnn.pad_sequence(group, batch_first=True).to(self.dtype)
                mask = torch.zeros(batch.shape, dtype=torch.long, device=self.device)
                for row, wave in enumerate(group):
                    mask[row, :len(wave)] = 1
                hidden = encoder(batch, attention_mask=mask).last_hidden_state
                states += [hidden[row, :frames_of(len(wave))] for row, wave in enumerate(group)]
        return states

    def speech_rows(self, adapter, states):
        torch, rows = self.torch, []
        with self.autocast():
            for state in states:
                spare = -len(state) % STACK
                padded = torch.nn.functional.pad(state, (0, 0, 0, spare))
                rows.append(adapter(padded.reshape(-1, STACK * state.shape[1]).float()).to(self.dtype))
        return rows

    def sequences(self, llm, speech):
        """Embeddings and labels of each clip."""
        torch, embed, result = self.torch, llm.get_input_embeddings(), []
        for rows in speech:
            prompt = torch.randint(0, 200, (PROMPT,), device=self.device)
            answer = torch.randint(0, 200, (ANSWER,), device=self.device)
            labels = torch.full((PROMPT + len(rows) + ANSWER,), -100, device=self.device)
            labels[-ANSWER:] = answer
            result.append((torch.cat([embed(prompt), rows, embed(answer)]), labels))
        return result

    def padded_loss(self, llm, pieces):
        torch = self.torch
        pad = torch.nn.utils.rnn.pad_sequence
        inputs = pad([e for e, _ in pieces], batch_first=True)
        labels = pad([l for _, l in pieces], batch_first=True, padding_value=-100)
        mask = pad([torch.ones(len(l), dtype=torch.long, device=self.device) for _, l in pieces], batch_first=True)
        with self.autocast():
            return llm(inputs_embeds=inputs, attention_mask=mask, labels=labels).loss

    def packed_loss(self, llm, pieces):
        torch = self.torch
        inputs = torch.cat([e for e, _ in pieces])[None]
        lengths = [len(l) for _, l in pieces]
        labels = torch.cat([l for _, l in pieces])
        positions = torch.cat([torch.arange(n, device=self.device) for n in lengths])[None]
        edges = torch.tensor([0] + lengths, device=self.device).cumsum(0).to(torch.int32)
        self.lengths = (edges, max(lengths))
        targets = (labels[1:] != -100).nonzero()[:, 0]
        with self.autocast():
            out = llm(inputs_embeds=inputs, position_ids=positions, attention_mask=None, use_cache=False,
                      logits_to_keep=targets)
            return torch.nn.functional.cross_entropy(out.logits[0].float(), labels[targets + 1])

    def variable_attention(self):
        """torch's flash attention over packed rows as an attention implementation of transformers."""
        from transformers import AttentionInterface

        def attend(module, query, key, value, mask, scaling=None, **_):
            edges, longest = self.lengths
            rows = [t[0].transpose(0, 1) for t in (query, key, value)]
            return varlen(*rows, edges, longest, causal=True)[None], None

        AttentionInterface.register("packed", attend)
        return "packed"

    def wait(self):
        if self.device != "cpu":
            self.torch.cuda.synchronize()

    def peak(self):
        return 0.0 if self.device == "cpu" else self.torch.cuda.max_memory_allocated() / 2 ** 30

    def timed(self, call, rounds=3):
        """Median seconds of up to `rounds` calls after one to warm up, within the time there is."""
        begin, times = time.perf_counter(), []
        call()
        self.wait()
        while len(times) < rounds and (not times or time.perf_counter() - begin < self.options.seconds):
            start = time.perf_counter()
            call()
            self.wait()
            times.append(time.perf_counter() - start)
        return statistics.median(times), len(times)

    def free(self):
        gc.collect()
        if self.device != "cpu":
            self.torch.cuda.empty_cache()
            self.torch.cuda.reset_peak_memory_stats()

    def step(self, arrangement, tokens):
        torch = self.torch
        self.free()
        attention = "sdpa" if arrangement == "padded" else self.variable_attention()
        clips = clips_of(tokens, 8 if self.small else 1)
        encoder, llm = self.encoder(), self.llm(attention)
        adapter = self.adapter(encoder.config.hidden_size, llm.config.hidden_size)
        trained = [p for p in [*llm.parameters(), *adapter.parameters()] if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=self.device != "cpu")
        waves = self.waves(clips)
        count = sum(PROMPT + rows_of(n) + ANSWER for n in clips)
        size = 8 if arrangement == "padded" else len(clips)
        order = range(len(clips)) if arrangement == "padded" else sorted(range(len(clips)), key=lambda c: clips[c])

        def call():
            for first in range(0, len(clips), size):
                chosen = [waves[c] for c in list(order)[first:first + size]]
                pieces = self.sequences(llm, self.speech_rows(adapter, self.encode(encoder, chosen)))
                loss = self.padded_loss(llm, pieces) if arrangement == "padded" else self.packed_loss(llm, pieces)
                (loss * len(chosen) / len(clips)).backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        seconds, rounds = self.timed(call)
        say(peer=arrangement, step=self.name, tokens=count, clips=len(clips), ms=seconds * 1e3,
            tokens_s=count / seconds, memory_gib=self.peak(), rounds=rounds)

    def steps(self, arrangement):
        tokens = self.options.tokens
        while True:
            try:
                return self.step(arrangement, tokens)
            except self.torch.OutOfMemoryError:
                say(peer=arrangement, step=self.name, tokens=tokens, error="out of memory")
                tokens //= 2
            if tokens < 512:
                return None

    # ---- the rest ----

    def encode_alone(self):
        self.free()
        encoder = self.encoder()
        clips = [samples_of(c) // (8 if self.small else 1) for c in range(1 if self.small else 64)]
        for order, name in ((clips, "padded"), (sorted(clips), "sorted by length, padded")):
            waves = self.waves(order)
            seconds, _ = self.timed(lambda: self.encode(encoder, waves))
            say(peer=name, encoder="wavlm", clips=len(clips), audio_s=sum(clips) / RATE, ms=seconds * 1e3,
                times_real_time=sum(clips) / RATE / seconds, memory_gib=self.peak())

    def generate(self):
        torch = self.torch
        self.free()
        llm = self.llm("sdpa", lora=False)
        count, new = (2, 4) if self.small else (64, 128)
        lengths = [PROMPT + rows_of(samples_of(c) // (8 if self.small else 1)) for c in range(count)]
        longest = max(lengths)
        inputs = torch.randn(count, longest, llm.config.hidden_size, device=self.device, dtype=self.dtype) * 0.02
        mask = torch.zeros(count, longest, dtype=torch.long, device=self.device)
        for row, length in enumerate(lengths):
            mask[row, longest - length:] = 1

        def call():
            with torch.no_grad():
                llm.generate(inputs_embeds=inputs, attention_mask=mask, max_new_tokens=new, min_new_tokens=new,
                             do_sample=False, pad_token_id=0)

        seconds, rounds = self.timed(call, rounds=1)
        say(peer="generate()", generate=self.name, prompts=count, new_tokens=new, seconds=seconds,
            tokens_s=count * new / seconds, memory_gib=self.peak(), rounds=rounds)

    def attention(self):
        """TFLOP/s over the pairs that are seen, forward and backward."""
        torch = self.torch
        clips = clips_of(self.options.tokens, 8 if self.small else 1)
        for name, heads, dim, causal, lengths in (
                ("attention, causal", 28, 128, True, [PROMPT + rows_of(n) + ANSWER for n in clips]),
                ("attention, no bias", 16, 64, False, [frames_of(n) for n in clips])):
            edges = torch.tensor([0] + lengths, device=self.device).cumsum(0).to(torch.int32)
            q, k, v = (torch.randn(sum(lengths), heads, dim, device=self.device, dtype=self.dtype, requires_grad=True)
                       for _ in range(3))
            pairs = sum(n * (n + 1) / 2 if causal else n * n for n in lengths) * heads

            def forward(many=20):
                for _ in range(many):
                    out = varlen(q, k, v, edges, max(lengths), causal=causal)
                return out

            out = forward(1)
            grad = torch.randn_like(out)
            seconds = self.timed(forward, 5)[0] / 20
            say(peer="torch flash", attention=name, ms=seconds * 1e3, tflop_s=4 * dim * pairs / seconds / 1e12)

            def backward(many=20):
                for _ in range(many):
                    torch.autograd.grad(out, (q, k, v), grad, retain_graph=True)

            seconds = self.timed(backward, 5)[0] / 20
            say(peer="torch flash", attention=name + ", backward", ms=seconds * 1e3,
                tflop_s=10 * dim * pairs / seconds / 1e12)


def varlen(q, k, v, edges, longest, causal):
    """Attention of packed rows [n, heads, dim] by torch's flash kernels; key heads may be fewer. How to say causal and
    grouped has changed between versions of torch."""
    import inspect

    import torch

    if q.device.type == "cpu":
        return varlen_alone(q, k, v, edges, causal)
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    more = {"is_causal": causal} if "is_causal" in known else {"window_size": (-1, 0) if causal else (-1, -1)}
    if "enable_gqa" in known:
        more["enable_gqa"] = k.shape[1] != q.shape[1]
    elif k.shape[1] != q.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    return varlen_attn(q.contiguous(), k.contiguous(), v.contiguous(), edges, edges, longest, longest, **more)


def varlen_alone(q, k, v, edges, causal):
    """The same a sequence at a time, for the CPU."""
    import torch

    rows = [t.transpose(0, 1)[None] for t in (q, k, v)]
    parts = [torch.nn.functional.scaled_dot_product_attention(*(t[:, :, a:b] for t in rows), is_causal=causal,
                                                              enable_gqa=True)
             for a, b in zip(edges.tolist(), edges.tolist()[1:])]
    return torch.cat(parts, dim=2)[0].transpose(0, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--encoder", default="configs/shapes/wavlm-large")
    parser.add_argument("--llm", default="configs/shapes/qwen2.5-7b")
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--parts", default="packed,padded,encoder,generate,attention")
    parser.add_argument("--seconds", type=float, default=15)
    options = parser.parse_args()
    try:
        peer = Peer(options)
        if options.device == "cuda" and not peer.torch.cuda.is_available():
            return say(peer="all", error="torch sees no GPU")
    except ImportError as missing:
        return say(peer="all", error=f"not installed: {missing.name}")
    parts = {"packed": lambda: peer.steps("packed"), "padded": lambda: peer.steps("padded"),
             "encoder": peer.encode_alone, "generate": peer.generate, "attention": peer.attention}
    for part in options.parts.split(","):
        try:
            parts[part]()
        except Exception as problem:  # the other parts may still do
            say(peer=part, step=peer.name, error=f"{type(problem).__name__}: {problem}"[:300])
    return None


if __name__ == "__main__":
    sys.exit(main())
