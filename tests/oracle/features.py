"""Features by Praat, the oracle of tests/data/test_features.c.

    features.py fixtures            writes tests/fixtures/features.json: Praat's values of synthetic signals
    features.py table OUT AUDIO...  writes Praat's values of recordings, a line each: tests/fixtures/praat.tsv, of two in
                                    nine of RAVDESS's and pocketsphinx-testdata's WAV files, for test_features_praat.c
    features.py compare SEMOLLM [--praat PROGRAM] AUDIO...
                                    how far `SEMOLLM features --json --track --voice-quality` is from Praat; from the
                                    program Praat (6.3 or later) where one is named, else from praat-parselmouth
    features.py bench SEMOLLM AUDIO...   processor time beside praat-parselmouth making the same calls, taking turns

Needs praat-parselmouth, numpy and soundfile, and for `table` the program praat. The synthetic signals are defined by
formulae that tests/data/signals.h computes too, noise by Philox as in base/rng.c.
"""
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import parselmouth
from parselmouth.praat import call

FEATURES = ("duration_s speech_s voiced_share f0_mean_hz f0_median_hz f0_sd_st f0_range_st f0_slope_st_s "
            "intensity_mean_db speech_rate_syll_s articulation_rate_syll_s pause_count pause_share").split()
QUALITY = "jitter_local shimmer_local hnr_db alpha_ratio_db f1_hz f2_hz f3_hz".split()


# --- Praat ---

def number(value):
    return None if value is None or not np.isfinite(value) else float(value)


def nuclei(sound):
    """Syllable nuclei and stretches of speech, call for call the script of de Jong & Wempe (2009)."""
    duration = call(sound, "Get total duration")
    try:
        intensity = call(sound, "To Intensity", 50, 0, "yes")
    except parselmouth.PraatError:
        return None
    least = call(intensity, "Get minimum", 0, 0, "Parabolic")
    most = call(intensity, "Get maximum", 0, 0, "Parabolic")
    high = call(intensity, "Get quantile", 0, 0, 0.99)
    threshold = max(high - 25, least)
    grid = call(intensity, "To TextGrid (silences)", -25 - (most - high), 0.3, 0.1, "silent", "sounding")
    table = call(call(grid, "Extract tier", 1), "Down to TableOfReal", "sounding")
    rows = call(table, "Get number of rows")
    speech = sum(call(table, "Get value", i, 2) - call(table, "Get value", i, 1) for i in range(1, rows + 1))
    curve = call(call(intensity, "Down to Matrix"), "To Sound (slice)", 1)
    points = call(curve, "To PointProcess (extrema)", "Left", "yes", "no", "Sinc70")
    times = [call(points, "Get time from index", i) for i in range(1, call(points, "Get number of points") + 1)]
    peaks = [(t, call(curve, "Get value at time", 0, t, "Cubic")) for t in times]
    peaks = [(t, v) for t, v in peaks if v > threshold]
    valid = [t for (t, v), (after, _) in zip(peaks, peaks[1:])
             if abs(v - call(intensity, "Get minimum", t, after, "None")) > 2]
    pitch = call(sound, "To Pitch (ac)", 0.02, 30, 4, "no", 0.03, 0.25, 0.01, 0.35, 0.25, 450)
    voiced = [t for t in valid
              if np.isfinite(call(pitch, "Get value at time", t, "Hertz", "Linear"))
              and call(grid, "Get label of interval", 1, call(grid, "Get interval at time", 1, t)) == "sounding"]
    return dict(speech_s=speech, speech_rate_syll_s=len(voiced) / duration,
                articulation_rate_syll_s=len(voiced) / speech if speech else None,
                pause_count=max(rows - 1, 0), pause_share=1 - speech / duration)


def contours(sound):
    try:
        pitch = call(sound, "To Pitch (ac)", 0.01, 75, 15, "no", 0.03, 0.45, 0.01, 0.35, 0.14, 600)
    except parselmouth.PraatError:
        pitch = None
    try:
        intensity = call(sound, "To Intensity", 75, 0, "yes")
    except parselmouth.PraatError:
        intensity = None
    return pitch, intensity


def alpha_ratio(sound, times):
    """Energy from 50 to 1000 Hz over that from 1 to 5 kHz, of Hann windows of 40 ms around `times`, in dB."""
    rate, samples = sound.sampling_frequency, sound.values[0]
    size = int(0.04 * rate + 0.5)
    if not len(times) or rate < 10000:
        return None
    at = np.floor(np.asarray(times) * rate + 0.5).astype(int)[:, None] - size // 2 + np.arange(size)
    frames = np.where((at >= 0) & (at < len(samples)), samples[at.clip(0, len(samples) - 1)], 0)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(size) + 0.5) / size)
    energy = (np.abs(np.fft.rfft(frames * window)) ** 2).sum(0)
    place = np.arange(len(energy)) * rate / size
    share = lambda low, high: (np.minimum(place + rate / size / 2, high) - np.maximum(place - rate / size / 2, low))
    band = lambda low, high: (energy * share(low, high).clip(0) * size / rate).sum()
    below, above = band(50, 1000), band(1000, 5000)
    return 10 * np.log10(below / above) if below > 0 and above > 0 else None


def quality(sound, pitch, ceiling=5500):
    """The voice-quality features; medians of formants over the voiced frames of the pitch."""
    found = dict.fromkeys(QUALITY)
    try:
        found["hnr_db"] = call(call(sound, "To Harmonicity (cc)", 0.01, 75, 0.1, 1.0), "Get mean", 0, 0)
    except parselmouth.PraatError:
        pass
    if pitch is None or not call(pitch, "Count voiced frames"):
        return found
    pulses = call([sound, pitch], "To PointProcess (cc)")
    found["jitter_local"] = call(pulses, "Get jitter (local)", 0, 0, 0.0001, 0.02, 1.3)
    if call(pulses, "Get number of points") > 2:
        found["shimmer_local"] = call([sound, pulses], "Get shimmer (local)", 0, 0, 0.0001, 0.02, 1.3, 1.6)
    times = pitch.xs()[pitch.selected_array["frequency"] > 0]
    found["alpha_ratio_db"] = alpha_ratio(sound, times)
    formant = call(sound, "To Formant (burg)", 0, 5, ceiling, 0.025, 50)
    for k in (1, 2, 3):
        values = np.array([formant.get_value_at_time(k, t) for t in times])
        values = values[np.isfinite(values)]
        found[f"f{k}_hz"] = np.median(values) if len(values) else None
    return found


def measure(sound, with_quality=True):
    """All features of a sound as Praat's own queries answer them, and the two contours."""
    found = dict.fromkeys(FEATURES)
    found["duration_s"] = call(sound, "Get total duration")
    pitch, intensity = contours(sound)
    f0, db = [], []
    if pitch is not None:
        f0 = pitch.selected_array["frequency"]
        voiced = f0 > 0
        found["voiced_share"] = voiced.mean()
        quantile = lambda q: call(pitch, "Get quantile", 0, 0, q, "Hertz")
        found["f0_mean_hz"] = call(pitch, "Get mean", 0, 0, "Hertz")
        found["f0_median_hz"] = quantile(0.5)
        found["f0_sd_st"] = call(pitch, "Get standard deviation", 0, 0, "semitones")
        if voiced.any():
            found["f0_range_st"] = 12 * np.log2(quantile(0.95) / quantile(0.05))
        if voiced.sum() > 1:
            found["f0_slope_st_s"] = np.polyfit(pitch.xs()[voiced], 12 * np.log2(f0[voiced] / 100), 1)[0]
    if intensity is not None:
        db = intensity.values[0]
        found["intensity_mean_db"] = call(intensity, "Get mean", 0, 0, "energy")
    found.update(nuclei(sound) or {})
    if with_quality:
        found.update(quality(sound, pitch))
    return {k: number(v) for k, v in found.items()}, np.asarray(f0), np.asarray(db)


# --- the program Praat ---

def parse_praat(text):
    found, tracks = {}, dict(f0=[], intensity=[])
    for line in text.splitlines():
        name, *values = line.split("\t")
        if name in tracks:
            tracks[name] = [float(v) for v in values]
        else:
            found[name] = None if "undefined" in values[0] else float(values[0])
    return found, np.array(tracks["f0"]), np.array(tracks["intensity"])


def ask_praat(program, paths):
    """What features.praat finds: a dict of features, F0 and intensity for each recording."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "features.praat")
    with tempfile.TemporaryDirectory() as folder:
        listed, out = os.path.join(folder, "list"), os.path.join(folder, "out")
        with open(listed, "w") as file:
            file.writelines(f"5500\t{os.path.abspath(path)}\n" for path in paths)
        subprocess.run([program, "--run", script, listed, out], check=True)
        with open(out) as file:
            return [parse_praat(part) for part in file.read().strip().split("\n\n")]


def write_table(path, paths):
    names = FEATURES + QUALITY
    with open(path, "w") as out:
        out.write("clip\t" + "\t".join(names) + "\n")
        for audio, (found, _, _) in zip(paths, ask_praat("praat", paths)):
            out.write("/".join(audio.split("/")[-2:]) + "".join(
                "\t" if found[n] is None else f"\t{found[n]:.7g}" for n in names) + "\n")


# --- comparison on recordings ---

# Absolute differences, and shares of Praat's value in %.
TOLERANCES = dict(f0_median_hz="0.5 %", f0_mean_hz="0.5 %", f0_sd_st=0.05, f0_range_st=0.1, f0_slope_st_s=0.1,
                  voiced_share=0.01, intensity_mean_db=0.1, speech_s=0.02, speech_rate_syll_s=0.1,
                  articulation_rate_syll_s=0.1, pause_count=0, pause_share=0.01, jitter_local="2 %",
                  shimmer_local="2 %", hnr_db=0.1, alpha_ratio_db=0.1, f1_hz="2 %", f2_hz="2 %", f3_hz="2 %")


def close(a, b, tolerance):
    if a is None or b is None:
        return a is b
    return abs(a - b) <= (float(tolerance[:-2]) / 100 * abs(b) if isinstance(tolerance, str) else tolerance)


def ask_peer(path):
    import soundfile
    samples, rate = soundfile.read(path)
    return measure(parselmouth.Sound(samples, rate))


def compare(program, praat, paths):
    lines = subprocess.run([program, "features", "--json", "--track", "--voice-quality", *paths], check=True,
                           capture_output=True)
    ours = [json.loads(line) for line in lines.stdout.splitlines()]
    theirs = ask_praat(praat, paths) if praat else [ask_peer(path) for path in paths]
    print(f"{len(paths)} recordings, {sum(o['duration_s'] for o in ours):.0f} s, against "
          f"{praat or 'praat-parselmouth ' + parselmouth.__version__}")
    frames = voicing = far = both = 0
    worst_db = 0.0
    for path, o, (praat_values, f0, db) in zip(paths, ours, theirs):
        mine, mine_db = np.array(o["track"]["f0_hz"]), np.array(o["track"]["intensity_db"])
        assert len(mine) == len(f0) and len(mine_db) == len(db), path
        frames += len(f0)
        voicing += int(((mine > 0) == (f0 > 0)).sum())
        shared = (mine > 0) & (f0 > 0)
        both += int(shared.sum())
        far += int((abs(mine[shared] / f0[shared] - 1) > 0.005).sum())
        worst_db = max(worst_db, abs(mine_db - db).max(initial=0))
    print(f"voicing decisions equal: {voicing / frames:.4%} of {frames} frames")
    print(f"F0 within 0.5 %: {1 - far / both:.4%} of {both} frames voiced in both")
    print(f"largest difference of an intensity frame: {worst_db:.4f} dB")
    for name, tolerance in TOLERANCES.items():
        pairs = [(o[name], p[name]) for o, (p, _, _) in zip(ours, theirs)]
        good = [close(a, b, tolerance) for a, b in pairs]
        known = np.array([(a, b) for a, b in pairs if a is not None and b is not None])
        same = np.ptp(known[:, 0]) == 0 or np.ptp(known[:, 1]) == 0
        print(f"{name:26} within {tolerance}: {sum(good) / len(good):.2%}, largest difference "
              f"{abs(known[:, 0] - known[:, 1]).max():.4g}"
              + ("" if same else f", correlation {np.corrcoef(known.T)[0, 1]:.6f}"))


# --- speed: processor seconds, both taking turns on the same recordings ---

def our_seconds(program, flags, paths):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([program, "features", "--json", *flags, *paths], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def peer_seconds(sounds, with_quality):
    began = time.process_time()
    for sound in sounds:
        measure(sound, with_quality)
    return time.process_time() - began


def bench(program, paths, part=12):
    import soundfile
    ratios = {(): [], ("--voice-quality",): []}
    seconds = {flags: [0.0, 0.0] for flags in ratios}
    audio = 0.0
    for start in range(0, len(paths), part):
        some = paths[start:start + part]
        sounds = [parselmouth.Sound(*soundfile.read(path)) for path in some]
        audio += sum(sound.duration for sound in sounds)
        for flags in ratios:
            ours, peer = our_seconds(program, flags, some), peer_seconds(sounds, bool(flags))
            ratios[flags].append(peer / ours)
            seconds[flags][0] += ours
            seconds[flags][1] += peer
    for flags, found in ratios.items():
        ours, peer = seconds[flags]
        print(f"{'whole set' if flags else 'without voice quality'}: {len(paths)} recordings, {audio:.0f} s: semollm "
              f"{audio / ours:.0f} times real time with reading the files, praat-parselmouth {audio / peer:.0f} times "
              f"without; median of {len(found)} ratios {statistics.median(found):.2f}")


# --- synthetic signals, the same as in tests/data/signals.h ---

def philox(key, c0, c1, c2, c3):
    mask = np.uint64(0xFFFFFFFF)
    c = [np.broadcast_to(np.asarray(x, np.uint64), np.shape(c0)).copy() for x in (c0, c1, c2, c3)]
    k0, k1 = np.uint64(key & 0xFFFFFFFF), np.uint64(key >> 32)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ k0, p1 & mask, (p0 >> np.uint64(32)) ^ c[3] ^ k1, p0 & mask]
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
    return np.stack(c, -1)


def uniform_noise(seed, count):
    """In (-1, 1): element i is word i % 4 of block i / 4."""
    words = philox(seed, np.arange((count + 3) // 4, dtype=np.uint64), 0, 0, 0).reshape(-1)[:count]
    return 2 * (((words >> np.uint64(8)).astype(np.float64) + 0.5) * 2.0 ** -24) - 1


def signal(s):
    """A voice-like sound: harmonics of a gliding, vibrating F0 in syllables, over noise, with a pause."""
    rate, count = s["rate"], s["count"]
    t = np.arange(count) / rate
    vibrato = s["vibrato_depth"] * np.sin(2 * np.pi * s["vibrato_hz"] * t) / (2 * np.pi * s["vibrato_hz"])
    phase = 2 * np.pi * (s["f0"] * t + 0.5 * s["glide"] * t * t + s["f0"] * vibrato)
    voice = np.zeros(count)
    for h in range(1, s["harmonics"] + 1):
        voice += np.sin(h * phase) / h
    syllables = np.sin(np.pi * s["syllables_hz"] * t) ** 2
    open_ = ~((t >= s["pause_from"]) & (t < s["pause_to"]))
    return (s["level"] * open_ * syllables * voice + s["noise"] * uniform_noise(s["seed"], count)).astype(np.float32)


SIGNALS = [dict(rate=r, count=int(r * d), f0=f, glide=g, vibrato_hz=v, vibrato_depth=dv, harmonics=h, syllables_hz=sy,
                level=lv, noise=n, seed=se, pause_from=pf, pause_to=pt)
           for r, d, f, g, v, dv, h, sy, lv, n, se, pf, pt in [
               (16000, 2.0, 120, 0, 5, 0.00, 10, 3.0, 0.10, 0.0005, 1, 9, 9),
               (16000, 3.1, 210, 20, 5, 0.03, 8, 4.0, 0.08, 0.0010, 2, 1.2, 1.8),
               (16000, 1.5, 95, -10, 6, 0.02, 20, 5.0, 0.05, 0.0100, 3, 9, 9),
               (16000, 4.0, 320, -30, 4, 0.05, 6, 2.5, 0.12, 0.0030, 4, 2.0, 2.2),
               (16000, 2.5, 540, 10, 5, 0.01, 4, 3.5, 0.10, 0.0020, 5, 0.0, 0.6),
               (8000, 2.0, 150, 15, 5, 0.02, 10, 4.5, 0.20, 0.0010, 6, 9, 9),
               (8000, 2.2, 82, 0, 5, 0.01, 12, 3.2, 0.20, 0.0040, 7, 0.9, 1.4),
               (22050, 2.3, 180, -25, 6, 0.04, 15, 4.2, 0.06, 0.0020, 8, 1.0, 1.35),
               (44100, 1.2, 250, 40, 5, 0.02, 12, 4.0, 0.10, 0.0010, 9, 9, 9),
               (16000, 1.0, 140, 0, 5, 0.00, 5, 4.0, 0.00, 0.0500, 10, 9, 9),
               (16000, 0.06, 200, 0, 5, 0.00, 5, 4.0, 0.10, 0.0010, 11, 9, 9),
               (16000, 0.025, 200, 0, 5, 0.00, 5, 20.0, 0.10, 0.0010, 12, 9, 9),
               (16000, 0.5, 400, 200, 5, 0.02, 9, 6.0, 0.30, 0.0100, 13, 9, 9),
               (16000, 6.0, 110, 5, 5, 0.06, 14, 4.8, 0.05, 0.0005, 14, 2.5, 3.6),
               (16000, 1.6, 130, 5, 5, 0.02, 10, 4.0, 0.10, 0.0, 15, 0.6, 1.1),
           ]]


def write_fixtures(path):
    rows = []
    for s in SIGNALS:
        samples = signal(s)
        values, f0, db = measure(parselmouth.Sound(samples.astype(np.float64), s["rate"]))
        rows.append(dict(signal=s, sum=float(np.abs(samples.astype(np.float64)).sum()),
                         features={k: None if v is None else float(f"{v:.9g}") for k, v in values.items()},
                         f0_hz=[float(f"{v:.6g}") for v in f0], intensity_db=[float(f"{v:.7g}") for v in db]))
    with open(path, "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]\n")


def main(arguments):
    match arguments:
        case ["compare", program, "--praat", praat, *paths] if paths:
            compare(program, praat, paths)
        case ["compare", program, *paths] if paths:
            compare(program, None, paths)
        case ["bench", program, *paths] if paths:
            bench(program, paths)
        case ["table", out, *paths] if paths:
            write_table(out, paths)
        case ["fixtures"]:
            write_fixtures("tests/fixtures/features.json")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
