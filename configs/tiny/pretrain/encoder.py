"""Pretrains the tiny WavLM on clips.npz (see corpus.py) and saves it as a Hugging Face folder."""

import argparse
import copy
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import transformers

CONFIG = dict(hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=256, feat_extract_norm="group",
              conv_dim=[32, 48, 64, 64, 64, 64, 64], conv_stride=[5, 2, 2, 2, 2, 2, 2], conv_kernel=[10, 3, 3, 3, 3, 2, 2],
              conv_bias=False, num_conv_pos_embeddings=32, num_conv_pos_embedding_groups=8, num_buckets=64,
              max_bucket_distance=200, do_stable_layer_norm=False, apply_spec_augment=False, hidden_dropout=0.0,
              attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0, layerdrop=0.0)
RATE, HOP, WINDOW = 16000, 320, 400


class Heads(nn.Module):
    """What the hidden states are asked for; thrown away afterwards."""

    def __init__(self, width, mels, units, speakers):
        super().__init__()
        self.mel, self.unit = nn.Linear(width, mels), nn.Linear(width, units)
        self.f0, self.rate = nn.Linear(width, 48), nn.Linear(width, 1)
        self.voice = nn.Linear(width, speakers)

    def forward(self, hidden, batch):
        loss = {
            "mel": F.mse_loss(self.mel(hidden), batch["mel"]),
            "unit": F.cross_entropy(self.unit(hidden).flatten(0, 1), batch["unit"].flatten()),
            "f0": F.cross_entropy(self.f0(hidden).flatten(0, 1), batch["f0"].flatten()),
            "rate": F.mse_loss(self.rate(hidden).squeeze(-1), batch["rate"] / 3),
            "voice": F.cross_entropy(self.voice(hidden.mean(1)), batch["voice"]),
        }
        return 1.0 * loss["mel"] + 0.5 * loss["unit"] + 0.5 * loss["f0"] + 2.0 * loss["rate"] + 0.2 * loss["voice"], loss


class Clips:
    def __init__(self, path):
        data = np.load(path)
        self.voice, self.mels = data["voice"], data["mel"].shape[1]
        cut = lambda name, lengths: np.split(data[name], np.cumsum(data[lengths])[:-1])
        self.audio = cut("audio", "audio_length")
        self.frames = {name: cut(name, "frames") for name in ("mel", "f0", "rate", "unit")}

    def batch(self, rng, size, frames):
        """Random crops, resampled by up to 7 % in blocks of equal stretch, with noise and a random gain."""
        stretch = rng.uniform(0.93, 1.07)
        long = int(frames * stretch)
        rows = {name: [] for name in ("audio", "mel", "f0", "rate", "unit", "voice")}
        while len(rows["voice"]) < size:
            i = rng.integers(len(self.audio))
            length = len(self.frames["f0"][i])
            if length <= long:
                continue
            start = rng.integers(length - long)
            audio = self.audio[i][start * HOP:start * HOP + (long - 1) * HOP + WINDOW].astype(np.float32)
            at = np.linspace(0, len(audio) - 1, (frames - 1) * HOP + WINDOW)
            audio = np.interp(at, np.arange(len(audio)), audio)
            audio += rng.normal(0, 10 ** rng.uniform(-4.5, -2), len(audio)) * np.abs(audio).max()
            rows["audio"].append(audio * 10 ** rng.uniform(-1.5, 0))
            frame = start + np.minimum(np.round(np.arange(frames) * stretch).astype(int), long - 1)
            shift = int(round(15 * np.log2(stretch)))  # F0 classes are fifteenths of an octave
            f0 = self.frames["f0"][i][frame]
            rows["f0"].append(np.where(f0 > 0, np.clip(f0 + shift, 1, 47), 0))
            rows["rate"].append(self.frames["rate"][i][frame] * stretch)
            rows["mel"].append(self.frames["mel"][i][frame])
            rows["unit"].append(self.frames["unit"][i][frame])
            rows["voice"].append(self.voice[i])
        kinds = {"audio": np.float32, "mel": np.float32, "rate": np.float32}
        return {name: torch.from_numpy(np.stack(v).astype(kinds.get(name, np.int64))) for name, v in rows.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("clips")
    parser.add_argument("output")
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(7)
    rng, clips = np.random.default_rng(7), Clips(args.clips)
    model = transformers.WavLMModel(transformers.WavLMConfig(**CONFIG)).train()
    heads = Heads(CONFIG["hidden_size"], clips.mels, 64, int(clips.voice.max()) + 1)
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, args.steps, pct_start=0.1)
    print(sum(p.numel() for p in model.parameters()), "parameters", flush=True)
    began, mean = time.time(), {}
    for step in range(args.steps):
        batch = clips.batch(rng, args.batch, args.frames)
        total, parts = heads(model(batch["audio"]).last_hidden_state, batch)
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        for name, value in parts.items():
            mean[name] = 0.98 * mean.get(name, value.item()) + 0.02 * value.item()
        if step % 100 == 99:
            print(step + 1, f"{time.time() - began:.0f} s", {k: round(v, 3) for k, v in mean.items()}, flush=True)
        if step % 500 == 499 or step + 1 == args.steps:
            copy.deepcopy(model).half().save_pretrained(args.output)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=False)
    extractor.save_pretrained(args.output)


if __name__ == "__main__":
    main()
