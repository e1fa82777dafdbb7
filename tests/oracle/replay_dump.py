#!/usr/bin/env python3
"""Replays `semollm train --dump DIR` in PyTorch: transformers' WavLM and LLM, PEFT's LoRA, the adapter as the
design defines it. Compares speech rows, loss and every gradient of every dumped step with our weights; then
trains from the first step's weights with torch's own AdamW, clipping and learning rates, and compares the
losses again. Exits 1 where a gradient is further off than 1e-3 or a loss than 1e-4.

    replay_dump.py DIR

The dumped run must have no dropout and no noise: their random numbers are ours alone."""

import json
import math
import pathlib
import sys

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, WavLMModel

GRADIENT_LIMIT, LOSS_LIMIT = 1e-3, 1e-4


class Adapter(torch.nn.Module):
    """k frames, each with its prosody channels, to a row: Linear, GELU, Linear."""

    def __init__(self, config, states, width, out):
        super().__init__()
        self.config = config
        frame = width + config["prosody"]
        self.linear1 = torch.nn.Linear(config["stack"] * frame, config["hidden"])
        self.linear2 = torch.nn.Linear(config["hidden"], out)
        self.mix = torch.nn.Parameter(torch.zeros(states)) if states > 1 else None

    def forward(self, states, prosody):
        if self.mix is not None:
            weights = torch.softmax(self.mix, 0)
            frames = sum(w * s for w, s in zip(weights, states))
        else:
            frames = states[-1]
        if prosody is not None:
            frames = torch.cat([frames, self.config["prosody_scale"] * prosody], 1)
        k = self.config["stack"]
        rows = -(-len(frames) // k)
        padded = torch.zeros(rows * k, frames.shape[1])
        padded[: len(frames)] = frames
        stacked = padded.reshape(rows, -1)
        return self.linear2(torch.nn.functional.gelu(self.linear1(stacked)))

    def parameter_of(self, name):
        if name == "layer_mix.weight":
            return self.mix
        return dict(self.named_parameters())[name.removeprefix("adapter.")]


def relative(a, b):
    return float((a - b).norm() / b.norm().clamp_min(1e-30)) if b.norm() > 0 else float(a.norm())


def hidden_states(encoder, wave):
    """Our convention: the last entry is last_hidden_state, after the final norm of large models."""
    with torch.no_grad():
        out = encoder(wave[None], output_hidden_states=True)
    states = [h[0] for h in out.hidden_states]
    states[-1] = out.last_hidden_state[0]
    return states


def open_models(config):
    encoder = WavLMModel.from_pretrained(config["encoder"], dtype=torch.float32).eval() if config["encoder"] else None
    llm = AutoModelForCausalLM.from_pretrained(config["llm"], dtype=torch.float32, attn_implementation="eager")
    return encoder, llm


def add_lora(llm, config, names):
    lora = config["lora"]
    if not any("lora_A" in n for n in names):
        return llm
    targets = sorted({n.split(".")[-3] for n in names if "lora_A" in n})
    peft = LoraConfig(r=lora["r"], lora_alpha=lora["alpha"], use_rslora=lora["rslora"], target_modules=targets)
    return get_peft_model(llm, peft)


def lora_parameter(llm, name):
    return dict(llm.named_parameters())[name.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default.")]


def load(step, parameters):
    with torch.no_grad():
        for n, p in parameters.items():
            p.copy_(step["param." + n])


def replay(step, encoder, llm, adapter, parameters):
    for p in parameters.values():
        p.grad = None
    cu, ids, labels = step["cu_seqlens"].tolist(), step["input_ids"].long(), step["labels"].long()
    lengths = step["wave_seqlens"].tolist() if encoder else []
    embed = llm.get_input_embeddings()
    wave_at = frame_at = 0
    total, count, rows = 0.0, int((labels != -100).sum()), []
    for s in range(len(cu) - 1):
        tokens, label = ids[cu[s] : cu[s + 1]], labels[cu[s] : cu[s + 1]]
        inputs = embed(tokens.clamp_min(0)).clone()
        if encoder:
            states = hidden_states(encoder, step["waveform"][wave_at : wave_at + lengths[s]])
            wave_at += lengths[s]
            prosody = None
            if "prosody" in step:
                prosody = step["prosody"][frame_at : frame_at + len(states[0])]
            frame_at += len(states[0])
            rows.append(adapter(states, prosody))
            inputs = inputs.masked_scatter((tokens < 0)[:, None], rows[-1])
        logits = llm(inputs_embeds=inputs[None]).logits[0]
        total = total + torch.nn.functional.cross_entropy(logits[:-1], label[1:], ignore_index=-100, reduction="sum")
    loss = total / count
    loss.backward()
    return loss.item(), torch.cat(rows).detach() if rows else None


def rate(config, step):
    """What the peak learning rate is multiplied with at step 1, 2, ..."""
    if step <= config["warmup"]:
        return step / config["warmup"]
    done = (step - 1 - config["warmup"]) / max(config["steps"] - config["warmup"], 1)
    return {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[config["schedule"]]


def train(paths, config, encoder, llm, adapter, parameters):
    """The same steps by torch alone; returns the worst relative error of a loss."""
    load(load_file(paths[0]), parameters)
    groups = [
        {
            "params": [p],
            "peak": config["lr" if "lora_" in n else "adapter_lr"],
            "weight_decay": config["weight_decay"] if p.dim() == 2 else 0.0,
        }
        for n, p in parameters.items()
    ]
    optimizer = torch.optim.AdamW(groups, betas=(config["beta1"], config["beta2"]), eps=config["eps"])
    worst = 0.0
    for number, path in enumerate(paths, 1):
        step = load_file(path)
        loss, _ = replay(step, encoder, llm, adapter, parameters)
        worst = max(worst, abs(loss - float(step["loss"])) / abs(loss))
        if config["clip"]:
            torch.nn.utils.clip_grad_norm_(list(parameters.values()), config["clip"])
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate(config, number)
        optimizer.step()
    return worst


def main():
    torch.set_num_threads(1)
    folder = pathlib.Path(sys.argv[1])
    config = json.loads((folder / "config.json").read_text())
    if config["lora"]["dropout"] or config["adapter"]["dropout"] or config["adapter"]["noise"]:
        sys.exit("replay_dump.py: dump a run without dropout and noise (--set model.lora.dropout=0 ...)")
    encoder, llm = open_models(config)
    paths = sorted(folder.glob("step-*.safetensors"), key=lambda p: int(p.stem.split("-")[1]))
    names = [k.removeprefix("param.") for k in load_file(paths[0]) if k.startswith("param.")]
    out = llm.get_input_embeddings().weight.shape[1]
    llm = add_lora(llm, config, names)
    adapter = None
    if encoder:
        states = len(encoder.encoder.layers) + 1 if config["layers"] == "weighted" else 1
        adapter = Adapter(config["adapter"], states, encoder.config.hidden_size, out)
    parameters = {n: adapter.parameter_of(n) if "lora_" not in n else lora_parameter(llm, n) for n in names}
    worst_gradient = worst_loss = worst_rows = 0.0
    for path in paths:
        step = load_file(path)
        load(step, parameters)
        loss, rows = replay(step, encoder, llm, adapter, parameters)
        worst_loss = max(worst_loss, abs(loss - float(step["loss"])) / abs(loss))
        if rows is not None:
            worst_rows = max(worst_rows, relative(step["speech_rows"], rows))
        for n, p in parameters.items():
            grad = p.grad if p.grad is not None else torch.zeros_like(p)
            apart = relative(step["grad." + n], grad)
            if apart > GRADIENT_LIMIT:
                print(f"{path.name}: gradient of {n}: relative error {apart:.2e}")
            worst_gradient = max(worst_gradient, apart)
    worst_trained = train(paths, config["optimizer"], encoder, llm, adapter, parameters)
    print(
        f"{len(paths)} steps, {len(names)} tensors: worst relative error of a loss {worst_loss:.2e}, "
        f"speech rows {worst_rows:.2e}, a gradient {worst_gradient:.2e}; "
        f"trained by torch's AdamW, a loss {worst_trained:.2e}"
    )
    ok = max(worst_gradient, worst_rows) <= GRADIENT_LIMIT and max(worst_loss, worst_trained) <= LOSS_LIMIT
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
