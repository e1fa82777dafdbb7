"""Fixtures for tests/model/test_speech_llm.c: the whole model (WavLM, adapter, Llama with PEFT's LoRA) in
PyTorch over the small encoder and LLM that other fixtures hold, with its loss, every gradient, 20 AdamW steps,
greedy answers and rankings.

    python tests/oracle/speech_llm.py        after wavlm.py and decoder.py; writes tests/fixtures/speech_llm/"""

from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, WavLMConfig, WavLMModel

import philox
import wavlm as wavlm_oracle

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
SAMPLES = [400, 8000, 16000, 4321]
SILENT = 8000
STEPS, SEED = 20, 11
SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
VARIANTS = {
    "weighted": dict(weighted=True, stack=4, hidden=24, prosody=3, scale=2.5, rank=4, alpha=8, targets=SEVEN),
    "last": dict(weighted=False, stack=5, hidden=20, prosody=0, scale=1.0, rank=2, alpha=6,
                 targets=["q_proj", "v_proj"]),
}
CANDIDATES = [[7], [11, 12], [11, 13, 14, 15], [8, 9, 10]]


def encoder():
    folder = FIXTURES / "wavlm" / "prefixed"
    model = WavLMModel(WavLMConfig.from_pretrained(folder)).eval()
    new = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    state = {}
    for name, value in load_file(folder / "model.safetensors").items():
        for old, name_now in new.items():
            name = name.replace(old, name_now)
        if name.startswith("wavlm."):
            state[name[len("wavlm."):]] = value.float()
    model.load_state_dict(state, strict=True)
    return model


def states_of(model, samples):
    wave = np.zeros(samples, np.float32) if samples == SILENT else wavlm_oracle.wave_of(samples)
    return torch.stack(wavlm_oracle.states_of(model, wave, True))  # [states, frames, H]


class Speech(torch.nn.Module):
    """The adapter, with the names its file has."""

    def __init__(self, settings, states, width, out, generator):
        super().__init__()
        self.settings = settings
        k, p = settings["stack"], settings["prosody"]
        self.adapter = torch.nn.ModuleDict(dict(linear1=torch.nn.Linear(k * (width + p), settings["hidden"]),
                                                linear2=torch.nn.Linear(settings["hidden"], out)))
        if settings["weighted"]:
            self.layer_mix = torch.nn.ParameterDict(dict(weight=torch.randn(states, generator=generator)))
        for q in self.adapter.parameters():
            q.data = torch.randn(q.shape, generator=generator) * (0.3 if q.dim() == 1 else q.shape[-1]**-0.5)

    def forward(self, states, prosody):
        frames = states[-1]
        if self.settings["weighted"]:
            frames = (self.layer_mix["weight"].softmax(0)[:, None, None] * states).sum(0)
        if self.settings["prosody"]:
            frames = torch.cat([frames, self.settings["scale"] * prosody], 1)
        k = self.settings["stack"]
        frames = F.pad(frames, (0, 0, 0, -len(frames) % k)).reshape(-1, k * frames.shape[1])
        return self.adapter["linear2"](F.gelu(self.adapter["linear1"](frames)))


def embed(llm, speech, ids, states, prosody):
    table = llm.get_input_embeddings().weight.detach()
    x = table[ids.clamp(min=0)].clone()
    rows = speech(states, prosody)
    x[ids == -1] = rows
    return x, rows


def token_losses(llm, x, labels):
    logits = llm(inputs_embeds=x[None]).logits[0, :-1]
    losses = F.cross_entropy(logits, labels[1:], reduction="none", ignore_index=-100)
    return losses[labels[1:] != -100]


def names(speech, peft):
    for name, p in speech.named_parameters():
        yield name, p
    for name, p in peft.named_parameters():
        if "lora_" in name:
            yield name.replace(".default", ""), p


def groups(parameters):
    """Learning rates and decay as the test sets them: matrices decay, and each kind has its own rate."""
    for name, p in parameters:
        lr = 1e-2 if "lora_" in name else 2e-2 if "layer_mix" in name else 5e-3
        yield dict(params=[p], lr=lr, weight_decay=0.01 if p.dim() == 2 else 0.0)


def make(variant, seed):
    settings = VARIANTS[variant]
    generator = torch.Generator().manual_seed(seed)
    wavlm = encoder()
    llm = AutoModelForCausalLM.from_pretrained(FIXTURES / "decoder" / "llama3", dtype=torch.float32,
                                               attn_implementation="eager").eval()
    vocab, d = llm.config.vocab_size, llm.config.hidden_size
    peft = get_peft_model(llm, LoraConfig(r=settings["rank"], lora_alpha=settings["alpha"],
                                          target_modules=settings["targets"], task_type="CAUSAL_LM"))
    for name, p in peft.named_parameters():
        if "lora_" in name:
            p.data = torch.randn(p.shape, generator=generator) * (0.2 if "lora_B" in name else p.shape[1]**-0.5)
    states = [states_of(wavlm, n) for n in SAMPLES]
    speech = Speech(settings, len(states[0]), states[0].shape[2], d, generator)
    prosody = [torch.randn(s.shape[1], settings["prosody"], generator=generator) for s in states]
    ids, labels = [], []
    for s in states:
        rows = -(-s.shape[1] // settings["stack"])
        before, after = (int(torch.randint(0, 6, (1,), generator=generator)) for _ in range(2))
        after += 4
        text = torch.randint(4, vocab, (before + after,), generator=generator)
        ids.append(torch.cat([text[:before], torch.full((rows,), -1), text[before:]]))
        mask = torch.rand(len(ids[-1]), generator=generator) < 0.7
        mask[:before + rows + 1] = False
        mask[before + rows] = True  # predicted by the last speech row
        labels.append(torch.where(mask, ids[-1], -100))
    expected = {"ids": torch.cat(ids).int(), "labels": torch.cat(labels).int(),
                "cu_tokens": torch.tensor([0] + [len(i) for i in ids]).cumsum(0).int(),
                "prosody": torch.cat(prosody)}
    for name, p in names(speech, peft):
        expected["param." + name] = p.data.clone()

    def losses():
        return torch.cat([token_losses(peft, embed(llm, speech, i, s, q)[0], t)
                          for i, s, q, t in zip(ids, states, prosody, labels)])

    with torch.no_grad():
        expected["speech_rows"] = torch.cat([speech(s, q) for s, q in zip(states, prosody)])
        generate(peft, llm, speech, ids, states, prosody, expected)
    first = losses()
    expected["row_loss"] = first.detach()
    first.mean().backward()
    for name, p in names(speech, peft):
        expected["grad." + name] = p.grad.clone()
    optimizer = torch.optim.AdamW(groups(names(speech, peft)))
    curve = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = losses().mean()
        loss.backward()
        optimizer.step()
        curve.append(float(loss))
    expected["losses"] = torch.tensor(curve)
    in1 = speech.adapter["linear1"].weight.shape[1]
    for i, (name, p, fan) in enumerate([("linear1.weight", speech.adapter["linear1"].weight, in1),
                                        ("linear1.bias", speech.adapter["linear1"].bias, in1),
                                        ("linear2.weight", speech.adapter["linear2"].weight, settings["hidden"]),
                                        ("linear2.bias", speech.adapter["linear2"].bias, settings["hidden"])]):
        drawn = philox.signed(SEED, min(p.numel(), 64), philox.PLACE_INIT, i, 0.0, fan**-0.5)
        expected["init.adapter." + name] = torch.from_numpy(drawn)
    folder = FIXTURES / "speech_llm" / variant
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
    print(variant, curve[0], curve[-1], (folder / "expected.safetensors").stat().st_size)


def generate(peft, llm, speech, ids, states, prosody, expected):
    """Greedy answers after each prompt (the speech rows and one token), and scores of candidates."""
    answers, scores = [], []
    for i, s, q in zip(ids, states, prosody):
        end = int((i == -1).nonzero()[-1]) + 2
        x = embed(llm, speech, i[:end], s, q)[0]
        out = peft.generate(inputs_embeds=x[None], attention_mask=torch.ones(1, end, dtype=torch.long),
                            do_sample=False, max_new_tokens=8, min_new_tokens=8, eos_token_id=95, pad_token_id=0)
        answers.append(out[0, -8:])
        for c in CANDIDATES:
            tail = llm.get_input_embeddings().weight[torch.tensor(c)]
            logp = peft(inputs_embeds=torch.cat([x, tail])[None]).logits[0].log_softmax(-1)
            scores.append(sum(logp[end - 1 + k, t] for k, t in enumerate(c)))
    expected["answers"] = torch.stack(answers).int()
    expected["scores"] = torch.stack(scores).reshape(len(ids), -1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number, name in enumerate(VARIANTS):
        make(name, 300 + number)
