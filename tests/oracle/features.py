"""Features by Praat, the oracle of tests/data/test_features.c.

    features.py fixtures            writes tests/fixtures/features.json: Praat's values of synthetic signals
    features.py compare SEMOLLM AUDIO...   how far `SEMOLLM features --json --track` is from Praat on recordings

Needs praat-parselmouth, numpy and soundfile. The synthetic signals are defined by formulae that
tests/data/signals.h computes too, noise by Philox as in base/rng.c.
"""
import json
import subprocess
import sys
import time

import numpy as np
import parselmouth
from parselmouth.praat import call

FEATURES = ("duration_s speech_s voiced_share f0_mean_hz f0_median_hz f0_sd_st f0_range_st f0_slope_st_s "
            "intensity_mean_db speech_rate_syll_s articulation_rate_syll_s pause_count pause_share").split()


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


def measure(sound):
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
    return {k: number(v) for k, v in found.items()}, np.asarray(f0), np.asarray(db)


# --- comparison on recordings ---

def close(a, b, tolerance):
    if a is None or b is None:
        return a is b
    return abs(a - b) <= tolerance


def compare(program, paths):
    import soundfile
    began = time.perf_counter()
    lines = subprocess.run([program, "features", "--json", "--track", *paths], check=True, capture_output=True)
    ours_took = time.perf_counter() - began
    rows, took, audio_s = [], 0.0, 0.0
    for line, path in zip(lines.stdout.splitlines(), paths):
        ours = json.loads(line)
        samples, rate = soundfile.read(path)
        sound = parselmouth.Sound(samples, rate)
        began = time.perf_counter()
        praat, f0, db = measure(sound)
        took += time.perf_counter() - began
        audio_s += praat["duration_s"]
        rows.append((path, ours, praat, f0, db))
    print(f"{len(rows)} recordings, {audio_s:.0f} s: semollm {ours_took:.2f} s with decoding, Praat {took:.2f} s")
    frames = voicing = octave = both = 0
    worst_db = 0.0
    for path, ours, praat, f0, db in rows:
        mine = np.array(ours["track"]["f0_hz"])
        mine_db = np.array(ours["track"]["intensity_db"])
        assert len(mine) == len(f0) and len(mine_db) == len(db), path
        frames += len(f0)
        voicing += int(((mine > 0) == (f0 > 0)).sum())
        shared = (mine > 0) & (f0 > 0)
        both += int(shared.sum())
        octave += int((abs(mine[shared] / f0[shared] - 1) > 0.005).sum())
        worst_db = max(worst_db, abs(mine_db - db).max(initial=0))
    print(f"voicing decisions equal: {voicing / frames:.4%} of {frames} frames")
    print(f"F0 within 0.5 %: {1 - octave / both:.4%} of {both} frames voiced in both")
    print(f"largest difference of an intensity frame: {worst_db:.4f} dB")
    checks = dict(f0_median_hz="0.5 %", f0_mean_hz="0.5 %", f0_sd_st=0.05, f0_range_st=0.1, f0_slope_st_s=0.1,
                  voiced_share=0.01, intensity_mean_db=0.1, speech_s=0.02, speech_rate_syll_s=0.1,
                  articulation_rate_syll_s=0.1, pause_count=0, pause_share=0.01)
    for name, tolerance in checks.items():
        good = [close(o[name], p[name], 0.005 * (p[name] or 0) if tolerance == "0.5 %" else tolerance)
                for _, o, p, _, _ in rows]
        worst = max((abs(o[name] - p[name]) for _, o, p, _, _ in rows if o[name] is not None and p[name] is not None),
                    default=0)
        print(f"{name:26} within {tolerance}: {sum(good) / len(good):.2%}, largest difference {worst:.4g}")


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


if __name__ == "__main__":
    if len(sys.argv) > 3 and sys.argv[1] == "compare":
        compare(sys.argv[2], sys.argv[3:])
    elif sys.argv[1:] == ["fixtures"]:
        write_fixtures("tests/fixtures/features.json")
    else:
        sys.exit(__doc__)
