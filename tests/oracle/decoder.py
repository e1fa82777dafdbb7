"""Fixtures for tests/model/test_decoder.c: small Llama, Qwen2 and Qwen3 models with random weights
(norms and biases too), and what transformers and PEFT compute with them.

    python tests/oracle/decoder.py        writes tests/fixtures/decoder/VARIANT/{config.json, model.safetensors,
                                          adapter/, expected.safetensors}
"""

import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

ROOT = Path(__file__).resolve().parents[1] / "fixtures" / "decoder"
LENGTHS = [1, 7, 29, 40]
VOCAB = 96
SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
STEPS = 20

COMMON = dict(vocab_size=VOCAB, num_hidden_layers=2, max_position_embeddings=128, bos_token_id=1, pad_token_id=0)

VARIANTS = {
    # Llama 3's scaling with wave lengths on all three sides of its bounds; an untied head.
    "llama3": (
        LlamaForCausalLM,
        LlamaConfig(
            hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5,
            tie_word_embeddings=False, eos_token_id=[2, 3],
            rope_parameters=dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0,
                                 high_freq_factor=4.0, original_max_position_embeddings=64),
            **COMMON),
        torch.float32, False,
        LoraConfig(r=4, lora_alpha=8, target_modules=SEVEN, task_type="CAUSAL_LM"),
    ),
    # One key head, linear scaling, biases everywhere, a tied head, keys as transformers 4 wrote them.
    "llama_old": (
        LlamaForCausalLM,
        LlamaConfig(
            hidden_size=32, intermediate_size=40, num_attention_heads=4, num_key_value_heads=1, rms_norm_eps=1e-6,
            tie_word_embeddings=True, attention_bias=True, mlp_bias=True, eos_token_id=2,
            rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0), **COMMON),
        torch.float16, True,
        LoraConfig(r=3, lora_alpha=5, target_modules="all-linear", task_type="CAUSAL_LM"),
    ),
    # Biases on q, k, v; three query heads a key head; ranks and alphas by pattern, targets by expression.
    "qwen2": (
        Qwen2ForCausalLM,
        Qwen2Config(
            hidden_size=48, intermediate_size=56, num_attention_heads=6, num_key_value_heads=2, rms_norm_eps=1e-6,
            tie_word_embeddings=True, eos_token_id=2, rope_parameters=dict(rope_type="default", rope_theta=1e6),
            **COMMON),
        torch.bfloat16, False,
        LoraConfig(r=4, lora_alpha=6, target_modules=r".*\.(q_proj|v_proj|o_proj|gate_proj|down_proj)",
                   rank_pattern={"q_proj": 2, r"layers\.1\.mlp\.down_proj": 6}, alpha_pattern={"v_proj": 3},
                   task_type="CAUSAL_LM"),
    ),
    # Norms of q and k, heads wider together than the model, rsLoRA.
    "qwen3": (
        Qwen3ForCausalLM,
        Qwen3Config(
            hidden_size=24, intermediate_size=40, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
            rms_norm_eps=1e-6, tie_word_embeddings=False, eos_token_id=[2, 5],
            rope_parameters=dict(rope_type="default", rope_theta=1e6), **COMMON),
        torch.float32, False,
        LoraConfig(r=4, lora_alpha=8, use_rslora=True, target_modules=SEVEN, task_type="CAUSAL_LM"),
    ),
}


def randomise(model, generator, dtype):
    """Weights that give lively logits, rounded to what the file will hold."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if "norm" in name:
            value = 1 + 0.3 * noise
        elif name.endswith("bias"):
            value = 0.3 * noise
        elif "embed" in name or "lm_head" in name:
            value = 0.4 * noise
        else:
            value = noise * 1.2 / p.shape[1] ** 0.5
        p.data = value.to(dtype).float()


def old_keys(path):
    """config.json as transformers 4 wrote it."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope["rope_theta"]
    config["rope_scaling"] = {"type": rope["rope_type"], "factor": rope["factor"]}
    config["torch_dtype"] = config.pop("dtype", "float16")
    config.pop("head_dim", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def save_adapter(peft, folder):
    peft.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    if isinstance(config["target_modules"], list):  # a set in PEFT, in another order each time
        config["target_modules"].sort()
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")


def save_model(model, folder, dtype, old):
    model.config.save_pretrained(folder)
    state = {n: p.to(dtype).contiguous() for n, p in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    if old:
        old_keys(folder / "config.json")


def logits_of(model, ids):
    with torch.no_grad():
        return torch.cat([model(input_ids=s[None]).logits[0] for s in ids])


def response_mask(ids, generator):
    """True at tokens that bear loss: never a sequence's first."""
    masks = [torch.rand(len(s), generator=generator) < 0.5 for s in ids]
    for mask in masks:
        mask[0] = False
    masks[-1][-1] = True
    return masks


def loss_sum(model, ids, masks, embeddings=None):
    """The sum of token losses over a list of sequences, each run alone."""
    total = 0
    for i, (s, mask) in enumerate(zip(ids, masks)):
        inputs = dict(input_ids=s[None]) if embeddings is None else dict(inputs_embeds=embeddings[i][None])
        logits = model(**inputs).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, s[1:], reduction="none") if len(s) > 1 else torch.zeros(0)
        total = total + losses[mask[1:]].sum()
    return total


def lora_state(model, grad):
    out = {}
    for name, p in model.named_parameters():
        if "lora_" in name:
            out[name.replace(".default", "")] = (p.grad if grad else p.data).clone().contiguous()
    return out


def train(model, ids, masks, expected):
    count = sum(int(m.sum()) for m in masks)
    embed = model.get_input_embeddings()
    embeddings = [embed(s).detach().requires_grad_(True) for s in ids]
    loss = loss_sum(model, ids, masks, embeddings) / count
    loss.backward()
    expected["d_embeddings"] = torch.cat([torch.zeros_like(e) if e.grad is None else e.grad for e in embeddings])
    for name, grad in lora_state(model, True).items():
        expected["grad." + name] = grad
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.01)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_sum(model, ids, masks) / count
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    expected["losses"] = torch.stack(losses)


GENERATIONS = {
    "greedy": dict(max_new_tokens=24),
    "penalty": dict(max_new_tokens=24, repetition_penalty=1.3),
    "beams": dict(max_new_tokens=24, num_beams=4),
    "beams_penalty": dict(max_new_tokens=24, num_beams=3, repetition_penalty=1.2),
    "min_new": dict(max_new_tokens=16, min_new_tokens=12),
    "beams_min_new": dict(max_new_tokens=16, num_beams=4, min_new_tokens=6),
}


def stops_of(prompts, model, eos):
    """Stop ids that random models do hit: tokens in the middle of what greedy search says."""
    ids = set(eos)
    for p in prompts:
        out = model.generate(p[None], attention_mask=torch.ones_like(p)[None], do_sample=False, max_new_tokens=24,
                             eos_token_id=VOCAB - 1, pad_token_id=0)[0, len(p):]
        ids.add(int(out[min(10, len(out) - 1)]))
    return sorted(ids)[:4]


def generate(model, ids, expected):
    prompts = [ids[1], ids[2][:5], ids[3][:17]]
    eos = model.config.eos_token_id
    stops = stops_of(prompts, model, eos if isinstance(eos, list) else [eos])
    expected["stops"] = torch.tensor(stops, dtype=torch.int32)
    expected["prompts"] = torch.cat(prompts).int()
    expected["prompt_lengths"] = torch.tensor([len(p) for p in prompts], dtype=torch.int32)
    for name, options in GENERATIONS.items():
        rows = []
        for p in prompts:
            out = model.generate(p[None], attention_mask=torch.ones_like(p)[None], do_sample=False, eos_token_id=stops,
                                 pad_token_id=0, **options)[0, len(p):]
            rows.append(torch.nn.functional.pad(out, (0, 24 - len(out)), value=-1))
        expected["generate." + name] = torch.stack(rows).int()
    # Log-likelihoods of continuations, one of a single token.
    candidates = [[7], [11, 12], [11, 13, 14, 15], [8, 9, 10]]
    scores = torch.zeros(len(prompts), len(candidates))
    for i, p in enumerate(prompts):
        for j, c in enumerate(candidates):
            whole = torch.cat([p, torch.tensor(c)])
            with torch.no_grad():
                logp = model(input_ids=whole[None]).logits[0].log_softmax(-1)
            scores[i, j] = sum(logp[len(p) - 1 + k, t] for k, t in enumerate(c))
    expected["ranking"] = scores


def make(name, seed):
    cls, config, dtype, old, lora = VARIANTS[name]
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config._attn_implementation = "eager"
    model = cls(config).eval()
    randomise(model, generator, dtype)
    model.tie_weights()
    save_model(model, folder, dtype, old)
    ids = [torch.randint(4, VOCAB - 1, (n,), generator=generator) for n in LENGTHS]
    masks = response_mask(ids, generator)
    expected = dict(ids=torch.cat(ids).int(), mask=torch.cat(masks).int(), logits=logits_of(model, ids))
    generate(model, ids, expected)

    peft = get_peft_model(model, lora)
    for n, p in peft.named_parameters():
        if "lora_B" in n:
            p.data = 0.2 * torch.randn(p.shape, generator=generator)
        elif "lora_A" in n:
            p.data = torch.randn(p.shape, generator=generator) / p.shape[1] ** 0.5
    save_adapter(peft, folder / "adapter")
    expected["adapter_logits"] = logits_of(peft, ids)
    train(peft, ids, masks, expected)
    save_file({k: v.contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{name}: {size / 1024:.0f} KiB, losses {expected['losses'][0]:.4f} .. {expected['losses'][-1]:.4f}")
    print("  greedy", expected["generate.greedy"].tolist())
    print("  beams ", expected["generate.beams"].tolist())


def main():
    torch.set_num_threads(1)
    for seed, name in enumerate(VARIANTS):
        make(name, 100 + seed)


if __name__ == "__main__":
    main()
