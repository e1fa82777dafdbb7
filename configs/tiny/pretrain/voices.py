"""Random espeak-ng voices: variant files drawn from a seed, in a data folder that links to the installed one."""

import os
import re
import subprocess
import tempfile

ACCENTS = ["en-us", "en-gb-scotland", "en-029", "en-gb-x-rp", "en-us-nyc", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-gb"]


def installed_data():
    version = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"Data at: (\S+)", version).group(1)


def variant_text(rng, gender):
    """The lines of one variant file; `rng` is a numpy Generator."""
    female = gender == "female"
    low = rng.uniform(130, 170) if female else rng.uniform(75, 95)
    tract = rng.uniform(1.06, 1.28) if female else rng.uniform(0.88, 1.06)
    lines = ["language variant", f"gender {gender}", f"pitch {low:.0f} {low * rng.uniform(1.35, 1.7):.0f}"]
    lines.append(f"formant 0 {rng.uniform(88, 120):.0f} {rng.uniform(80, 150):.0f} {rng.uniform(90, 155):.0f}")
    for i in range(1, 9):
        height = rng.uniform(55, 130) if i < 6 else rng.uniform(20, 110)
        lines.append(f"formant {i} {100 * tract * rng.uniform(0.93, 1.07):.0f} {height:.0f} {rng.uniform(75, 165):.0f}")
    lines.append(f"flutter {rng.integers(0, 12)}")
    lines.append(f"roughness {rng.integers(0, 5)}")
    lines.append(f"consonants {rng.integers(60, 150)} {rng.integers(60, 150)}")
    if rng.random() < 0.6:
        lines.append(f"voicing {rng.integers(50, 150)}")
    if rng.random() < 0.3:
        lines.append("breath 0 " + " ".join(str(v) for v in rng.integers(0, 8, 7)))
    if rng.random() < 0.3:
        lines.append(f"tone 600 {rng.integers(100, 255)} 1200 {rng.integers(60, 255)} 2000 {rng.integers(30, 120)}")
    if rng.random() < 0.25:
        lines.append(f"echo {rng.integers(20, 150)} {rng.integers(5, 40)}")
    if rng.random() < 0.5:
        lines.append("stressAdd " + " ".join(str(v) for v in rng.integers(-20, 50, 8)))
    if rng.random() < 0.5:
        lines.append("stressAmp " + " ".join(str(v) for v in rng.integers(14, 30, 8)))
    if rng.random() < 0.25:
        lines.append(f"intonation {rng.integers(1, 5)}")
    if rng.random() < 0.15:
        lines.append(f"klatt {rng.integers(1, 6)}")
    return "\n".join(lines) + "\n"


def data_folder(texts):
    """A temporary folder for ESPEAK_DATA_PATH that holds `texts` {name: variant} beside the installed data."""
    root = tempfile.mkdtemp(prefix="espeak-voices-")
    data, source = os.path.join(root, "espeak-ng-data"), installed_data()
    os.makedirs(os.path.join(data, "voices", "!v"))
    for name in os.listdir(source):
        if name != "voices":
            os.symlink(os.path.join(source, name), os.path.join(data, name))
    for name, text in texts.items():
        with open(os.path.join(data, "voices", "!v", name), "w") as file:
            file.write(text)
    return root
