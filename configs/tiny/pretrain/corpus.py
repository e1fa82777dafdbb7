"""Clips to pretrain the tiny encoder on: random voices and prosody, no emotion, and sentences the demo never uses.

Writes clips.npz: 16 kHz audio with, per 20 ms frame, log mel, F0 class, k-means unit and local syllable rate."""

import argparse
import concurrent.futures
import os
import shutil
import subprocess

import numpy as np
import parselmouth
import scipy.signal
import sklearn.cluster

import voices

RATE, HOP, WINDOW, MELS, UNITS = 16000, 320, 400, 40, 64
SUBJECTS = ["My uncle", "The old sailor", "A young engineer", "Our neighbour", "The committee", "Every visitor",
            "The museum guide", "A tired driver", "The orchestra", "Her cousin", "The gardener", "This magazine"]
VERBS = ["repaired", "remembered", "carried", "described", "ordered", "photographed", "borrowed", "discovered",
         "painted", "collected", "delivered", "examined"]
OBJECTS = ["the broken bicycle", "a yellow umbrella", "seven wooden boxes", "the winter timetable", "an unusual map",
           "the silver trumpet", "several old letters", "a bowl of soup", "the village church", "some fresh apples",
           "the longest novel", "a pair of boots"]
ENDS = ["near the harbour", "in the afternoon", "with great care", "for the whole team", "under the bridge",
        "before the storm", "at the last minute", "behind the theatre", "without any help", "during the holidays",
        "across the valley", "on a quiet Monday"]


def sentence(rng):
    text = f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(OBJECTS)}"
    return " ".join([text, *rng.choice(ENDS, rng.integers(0, 3), replace=False)]) + "."


def speak(job):
    accent, voice, pitch, speed, gap, span, text, folder = job
    ssml = f'<prosody range="{span}%">{text}</prosody>'
    command = ["espeak-ng", "-v", f"{accent}+{voice}", "-p", str(pitch), "-s", str(speed), "-g", str(gap), "-z", "-m",
               "--stdout", ssml]
    wave = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "ESPEAK_DATA_PATH": folder}).stdout
    audio = np.frombuffer(wave[44:len(wave) - len(wave) % 2], "<i2") / 32768
    audio = scipy.signal.resample_poly(audio, 320, 441)
    loud = np.nonzero(np.abs(audio) > 0.003)[0]
    return audio[max(0, loud[0] - 800):loud[-1] + 800] if len(loud) else audio[:0]


def filterbank():
    mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), MELS + 2)
    hz = 700 * (10 ** (mel / 2595) - 1)
    freq = np.fft.rfftfreq(512, 1 / RATE)
    rise = (freq - hz[:-2, None]) / (hz[1:-1] - hz[:-2])[:, None]
    fall = (hz[2:, None] - freq) / (hz[2:] - hz[1:-1])[:, None]
    return np.maximum(0, np.minimum(rise, fall))


def targets(audio):
    """Log mel, F0 class (0 unvoiced, 1..47) and syllable rate per frame."""
    frames = (len(audio) - WINDOW) // HOP + 1
    index = np.arange(frames)[:, None] * HOP + np.arange(WINDOW)
    power = np.abs(np.fft.rfft(audio[index] * np.hanning(WINDOW), 512)) ** 2
    mel = np.log(power @ filterbank().T + 1e-6)
    sound = parselmouth.Sound(audio, RATE)
    time = (np.arange(frames) * HOP + WINDOW / 2) / RATE
    pitch = sound.to_pitch_ac(time_step=0.01, pitch_floor=75, pitch_ceiling=600)
    f0 = np.array([pitch.get_value_at_time(t) for t in time])
    f0_class = np.where(np.isnan(f0), 0, np.clip(1 + 15 * np.log2(np.nan_to_num(f0, nan=75) / 75), 1, 47)).astype(np.int64)
    intensity = sound.to_intensity(minimum_pitch=50)
    level, at = intensity.values[0], intensity.xs()
    floor = np.quantile(level, 0.99) - 25
    peaks, _ = scipy.signal.find_peaks(level, height=floor, prominence=2)
    nuclei = np.array([at[p] for p in peaks if not np.isnan(pitch.get_value_at_time(at[p]) or np.nan)])
    rate = np.exp(-0.5 * ((time[:, None] - nuclei) / 0.3) ** 2).sum(1) / (0.3 * np.sqrt(2 * np.pi))
    weight = np.exp(-0.5 * ((time[:, None] - np.arange(0, len(audio) / RATE, 0.01)) / 0.3) ** 2).sum(1) * 0.01
    return mel, f0_class, rate / (weight / (0.3 * np.sqrt(2 * np.pi)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("--clips", type=int, default=1200)
    parser.add_argument("--voices", type=int, default=120)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    rng = np.random.default_rng(20)
    names = {f"p{i}": voices.variant_text(rng, ["female", "male"][i % 2]) for i in range(args.voices)}
    folder = voices.data_folder(names)
    jobs = [(rng.choice(voices.ACCENTS), f"p{i % args.voices}", rng.integers(15, 80), int(90 * 3.8 ** rng.random()),
             max(0, rng.integers(-8, 7)), rng.integers(20, 230), sentence(rng), folder) for i in range(args.clips)]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        audio = list(pool.map(speak, jobs))
    shutil.rmtree(folder)
    kept = [i for i, a in enumerate(audio) if len(a) > RATE]
    audio = [a + rng.normal(0, 1e-4, len(a)) for a in (audio[i] / np.abs(audio[i]).max() * 0.5 for i in kept)]
    mel, f0, rate = zip(*map(targets, audio))
    mel = [m - m.mean() for m in mel]
    stacked = np.concatenate(mel)
    units = sklearn.cluster.MiniBatchKMeans(UNITS, random_state=0, n_init=3, batch_size=4096).fit(stacked)
    np.savez(args.output, audio=np.concatenate(audio).astype(np.float16), audio_length=[len(a) for a in audio],
             mel=(stacked / stacked.std()).astype(np.float16), frames=[len(m) for m in mel], f0=np.concatenate(f0),
             rate=np.concatenate(rate).astype(np.float32), unit=units.predict(stacked),
             voice=[i % args.voices for i in kept])
    print(f"{len(kept)} clips, {sum(map(len, audio)) / RATE:.0f} s")


if __name__ == "__main__":
    main()
