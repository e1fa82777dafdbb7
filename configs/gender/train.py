"""Trains the estimate of a speaker's gender (data/gender.c) and measures how wrong it is.

    train.py SEMOLLM RAVDESS SYNTH

RAVDESS is the folder that holds Actor_01 .. Actor_24; odd actors are men, even ones women. SYNTH is a corpus made by
`semollm synth SYNTH --clips 384 --test-clips 192`: espeak-ng's voices, which it never sees. Writes
data/gender_weights.h. Errors on RAVDESS are those of actors left out of training, each in its turn. Needs numpy and
scikit-learn.
"""
import glob
import json
import subprocess
import sys

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# Those that follow from the voice and not from the recording: levels, noise and voicing tell RAVDESS's men from its
# women too, and lead astray anywhere else. Frequencies are taken as logarithms.
NAMES = ["f0_median_hz", "f0_mean_hz", "f0_sd_st", "f0_range_st", "f1_hz", "f2_hz", "f3_hz"]
FEW = 5


def measure(program, paths):
    lines = subprocess.run([program, "features", "--json", "--voice-quality", *paths], check=True, capture_output=True)
    rows = [json.loads(line) for line in lines.stdout.splitlines()]
    values = [[np.nan if r[n] is None else np.log(r[n]) if n.endswith("_hz") else r[n] for n in NAMES] for r in rows]
    return np.array(values, float)


def model():
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=5000))


def few_wrong(odds, speakers, male):
    """The share of wrong means over FEW utterances drawn of each speaker, again and again."""
    draw, wrong = np.random.default_rng(0), []
    for speaker in np.unique(speakers):
        own = odds[speakers == speaker]
        for _ in range(200):
            wrong.append((draw.choice(own, FEW, replace=False).mean() > 0) != male[speakers == speaker][0])
    return np.mean(wrong)


def write(fitted, errors):
    scale, regression = fitted[0], fitted[1]
    with open("data/gender_weights.h", "w") as out:
        out.write("/* Written by configs/gender/train.py: a man's log odds by the standardised features (logarithms of "
                  "those in Hz). */\n#ifndef SEMOLLM_DATA_GENDER_WEIGHTS_H\n#define SEMOLLM_DATA_GENDER_WEIGHTS_H\n\n"
                  "#include \"data/features.h\"\n\n"
                  "typedef struct GenderWeight {\n    FeatureId feature;\n    double mean, spread, weight;\n"
                  "} GenderWeight;\n\nstatic const GenderWeight GENDER_WEIGHTS[] = {\n")
        for name, mean, spread, weight in zip(NAMES, scale.mean_, scale.scale_, regression.coef_[0]):
            out.write(f"    {{FEATURE_{name.upper()}, {mean:.8g}, {spread:.8g}, {weight:.8g}}},\n")
        out.write(f"}};\nstatic const double GENDER_BIAS = {regression.intercept_[0]:.8g};\n\n"
                  "/* Of 100 whose gender is estimated, how many wrongly: by utterances of RAVDESS's actors, each left "
                  "out of\n * training in its turn, alone and by means over as many of one actor; and by utterances of "
                  "espeak-ng's voices. */\n"
                  f"enum {{ GENDER_FEW = {FEW} }};\n")
        for name, error in errors.items():
            out.write(f"static const double GENDER_WRONG_{name} = {100 * error:.1f};\n")
        out.write("\n#endif\n")
    subprocess.run(["clang-format", "-i", "data/gender_weights.h"], check=True)


def main(program, ravdess, synth):
    paths = sorted(glob.glob(f"{ravdess}/Actor_*/*.flac") + glob.glob(f"{ravdess}/Actor_*/*.wav"))
    speakers = np.array([int(path[-7:-5] if path.endswith("flac") else path[-6:-4]) for path in paths])
    values, male = measure(program, paths), speakers % 2 == 1
    known = np.isfinite(values).all(1)
    values, male, speakers = values[known], male[known], speakers[known]
    odds = cross_val_predict(model(), values, male, groups=speakers, cv=LeaveOneGroupOut(), method="decision_function")
    whole = [(odds[speakers == s].mean() > 0) != male[speakers == s][0] for s in np.unique(speakers)]
    fitted = model().fit(values, male)
    with open(f"{synth}/manifest.jsonl") as file:
        unseen = [json.loads(line) for line in file]
    unseen_values = measure(program, [f"{synth}/{u['audio']}" for u in unseen])
    unseen_known = np.isfinite(unseen_values).all(1)
    unseen_male = np.array([u["gender"] == "male" for u in unseen])[unseen_known]
    unseen_wrong = fitted.predict(unseen_values[unseen_known]) != unseen_male
    errors = dict(ALONE=np.mean((odds > 0) != male), FEW=few_wrong(odds, speakers, male), ESPEAK=unseen_wrong.mean())
    print(f"{len(paths)} clips of {len(whole)} actors, {np.sum(~known)} without a value; left out of training: "
          f"{errors['ALONE']:.1%} of utterances wrong (women {np.mean(odds[~male] > 0):.1%}, men "
          f"{np.mean(odds[male] <= 0):.1%}), {errors['FEW']:.1%} of {FEW} of one actor, {sum(whole)} of {len(whole)} "
          f"actors by all of theirs")
    print(f"{len(unseen)} clips of espeak-ng: {errors['ESPEAK']:.1%} of utterances wrong (women "
          f"{unseen_wrong[~unseen_male].mean():.1%}, men {unseen_wrong[unseen_male].mean():.1%})")
    write(fitted, errors)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
