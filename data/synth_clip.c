/* One clip: espeak-ng's settings give the wanted F0 and rate only roughly, so each clip is measured and
 * its settings corrected until it has them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/synth.h"

enum { PLACE_CLIP = PLACE_TEMPLATE + 3, PLACE_FLOOR = PLACE_TEMPLATE + 4, ATTEMPTS = 5, CASTINGS = 4 };

static const char *const ACCENTS[] = {"en-us", "en-us-nyc", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-gb-x-gbclan"};
enum { ACCENT_COUNT = sizeof ACCENTS / sizeof *ACCENTS };

/* Targets of the middle level and the step to its neighbours; jitter keeps within a level. */
static const double WOMEN_HZ = 220, MEN_HZ = 115, PITCH_STEP_ST = 3.5, PITCH_JITTER_ST = 0.3;
static const double MIDDLE_RATE = 5.3, RATE_STEP = 0.33, RATE_JITTER = 0.03; /* syllables a second; in ln */
static const double MIDDLE_DBFS = -27, VOLUME_STEP_DB = 9, VOLUME_JITTER_DB = 1.2;
static const double LIVELY_ST = 4; /* a wanted range from which speech counts as lively */
static const double CLIP_S = 2.75; /* speech of about this length, whatever the rate */
static const double SLURRED = 0.12;
static const double FLOOR_DBFS = -72; /* a room's noise, the same in every clip */
static const double PEAK = 0.99;
/* What is near enough to stop, in ln: 4 % of F0, 7 % of rate. */
static const double NEAR_F0 = 0.04, NEAR_RATE = 0.07;
static const double BEARABLE = 2.2; /* times that: more, and another voice is asked */
/* How espeak-ng answers: ln F0 per step of -p; ln rate per ln of -s, about. */
static const double PITCH_SLOPE = 0.0107, SPEED_POWER = 0.9;
static const double CALIBRATION_PITCH = 50, CALIBRATION_SPEED = 150;

typedef struct Target {
    double f0_hz, rate, dbfs;
} Target;

typedef struct Measured {
    double f0_hz, rate, range_st; /* NaN or 0: none */
} Measured;

static double jitter(Rng *rng, double spread) { return spread * (2 * rng_uniform(rng_next(rng)) - 1); }

static Target target_of(const ClipPlan *plan, Rng *rng) {
    Target target;
    double semitones = (plan->level[CUE_PITCH] - 1) * PITCH_STEP_ST + jitter(rng, PITCH_JITTER_ST);
    target.f0_hz = (plan->female ? WOMEN_HZ : MEN_HZ) * exp2(semitones / 12);
    target.rate = MIDDLE_RATE * exp((plan->level[CUE_SPEED] - 1) * RATE_STEP + jitter(rng, RATE_JITTER));
    target.dbfs = MIDDLE_DBFS + (plan->level[CUE_VOLUME] - 1) * VOLUME_STEP_DB + jitter(rng, VOLUME_JITTER_DB);
    return target;
}

/* For clips of one length whatever their rate. What counts as a syllable in fast speech is fewer than are
 * written, in slow speech more. */
static double syllables_of(const Target *target) {
    return target->rate * CLIP_S * pow(target->rate / MIDDLE_RATE, SLURRED);
}

/* ---- gain and room noise ---- */

static void add_floor(Audio *audio, uint64_t seed, uint32_t number) {
    float level = (float)pow(10, FLOOR_DBFS / 20);
    Rng rng = rng_stream(seed, PLACE_FLOOR, number, 0);
    for (int64_t i = 0; i < audio->count; i += 2) {
        float pair[2];
        uint32_t a = rng_next(&rng), b = rng_next(&rng);
        rng_normal_pair(a, b, &pair[0], &pair[1]);
        for (int64_t j = 0; j < 2 && i + j < audio->count; j++) audio->samples[i + j] += level * pair[j];
    }
}

static void set_level(Audio *audio, double dbfs) {
    double energy = 0, peak = 1e-9;
    for (int64_t i = 0; i < audio->count; i++) {
        double sample = audio->samples[i];
        energy += sample * sample;
        peak = fmax(peak, fabs(sample));
    }
    double gain = pow(10, dbfs / 20) / sqrt(energy / (double)(audio->count ? audio->count : 1) + 1e-12);
    gain = fmin(gain, PEAK / peak);
    for (int64_t i = 0; i < audio->count; i++) audio->samples[i] *= (float)gain;
}

/* ---- the loop ---- */

static bool measure(const Audio *audio, Measured *measured, Error *err) {
    FeatureOptions options = feature_options_default();
    Features features;
    if (!features_measure(audio, &options, &features, NULL, err)) return false;
    measured->f0_hz = features.value[FEATURE_F0_MEDIAN_HZ];
    measured->rate = features.value[FEATURE_ARTICULATION_RATE];
    measured->range_st = features.value[FEATURE_F0_RANGE_ST];
    return true;
}

/* ln(measured / wanted), or a large number where nothing could be measured. */
static double off(double measured, double wanted) { return measured > 0 ? log(measured / wanted) : -1; }

static double clamp(double value, double low, double high) { return fmin(fmax(value, low), high); }

/* A lively voice moves by half more than it does unasked at least, a monotone one by a third at most;
 * espeak-ng takes no more than 200 %. */
static int range_percent(const Voice *voice, const ClipPlan *plan) {
    if (plan->range_st == 0 || !(voice->range_st > 0)) return 100;
    double percent = 100 * plan->range_st / voice->range_st;
    return (int)(plan->range_st >= LIVELY_ST ? clamp(percent, 150, 200) : clamp(percent, 15, 33));
}

static void first_settings(const Voice *voice, const ClipPlan *plan, const Target *target, Utter *utter) {
    double moved = 0.12 * log(utter->range_percent / 100.0); /* a wider range lifts the median, too */
    double gap = plan->word_gap ? 1.25 : 1;
    utter->pitch = CALIBRATION_PITCH + (off(target->f0_hz, voice->f0_hz) - moved) / PITCH_SLOPE;
    utter->speed = CALIBRATION_SPEED * gap * exp(off(target->rate, voice->rate) / SPEED_POWER);
}

static void limit_settings(Utter *utter) {
    utter->pitch = clamp(utter->pitch, 0, 99);
    utter->speed = clamp(utter->speed, 80, 450);
}

static void keep_best(Audio *best, double *least, Audio *audio, double error) {
    Audio *worse = error < *least ? best : audio;
    audio_free(worse);
    if (error < *least) {
        *best = *audio;
        *least = error;
    }
    *audio = (Audio){0};
}

/* Synthesises, measures and corrects; the nearest attempt is kept in clip->audio. *error is 1 or less where
 * it is near enough. */
static bool approach(const Voice *voice, const ClipPlan *plan, const Target *target, Utter *utter, uint64_t seed,
                     uint32_t number, Clip *clip, double *error, Error *err) {
    first_settings(voice, plan, target, utter);
    for (int attempt = 0; attempt<ATTEMPTS && * error> 1; attempt++) {
        Audio audio = {0};
        Measured measured = {0};
        limit_settings(utter);
        if (!espeak_speak(utter, &audio, err)) return false;
        set_level(&audio, target->dbfs);
        add_floor(&audio, seed, number);
        if (!measure(&audio, &measured, err)) {
            audio_free(&audio);
            return false;
        }
        double f0 = off(measured.f0_hz, target->f0_hz), rate = off(measured.rate, target->rate);
        keep_best(&clip->audio, error, &audio, fmax(fabs(f0) / NEAR_F0, fabs(rate) / NEAR_RATE));
        utter->pitch -= f0 / PITCH_SLOPE;
        utter->speed *= exp(-rate / SPEED_POWER);
    }
    return true;
}

void synth_clip_free(Clip *clip) {
    audio_free(&clip->audio);
    free(clip->voice);
    free(clip->text);
    *clip = (Clip){0};
}

bool synth_calibrate(Voice *voice, const char *data, Error *err) {
    static const char *const TEXTS[] = {"The teacher is reading a letter in the office.",
                                        "My brother moved the little table at the end of the day."};
    voice->f0_hz = voice->rate = voice->range_st = 0;
    for (int i = 0; i < 2; i++) {
        Utter utter = {.accent = ACCENTS[0],
                       .voice = voice->name,
                       .data = data,
                       .text = TEXTS[i],
                       .pitch = CALIBRATION_PITCH,
                       .speed = CALIBRATION_SPEED,
                       .range_percent = 100};
        Audio audio = {0};
        Measured measured = {0};
        bool ok = espeak_speak(&utter, &audio, err) && measure(&audio, &measured, err);
        audio_free(&audio);
        if (!ok) return fail_in(err, "voice %s", voice->name);
        voice->f0_hz += measured.f0_hz / 2;
        voice->rate += measured.rate / 2;
        voice->range_st += measured.range_st / 2;
    }
    if (!(voice->f0_hz > 0 && voice->rate > 0))
        return fail(err, "voice %s: espeak-ng's speech has no pitch or no syllables", voice->name);
    return true;
}

/* The planned voice, or, where that cannot do it, the next of the same gender. */
static const Voice *cast(const Voices *voices, const ClipPlan *plan, int casting) {
    int first = plan->female ? 0 : voices->women;
    int count = plan->female ? voices->women : voices->count - voices->women;
    return &voices->items[first + (plan->voice - first + casting) % count];
}

static bool try_voice(const Voices *voices, const Voice *voice, const ClipPlan *plan, uint64_t seed, Rng *rng,
                      uint32_t number, Clip *clip, double *error, Error *err) {
    Target target = target_of(plan, rng);
    *clip = (Clip){.accent = ACCENTS[rng_below(rng, ACCENT_COUNT)], .voice = text_copy(voice->name, err)};
    clip->text = synth_sentence(rng, syllables_of(&target), err);
    Utter utter = {.accent = clip->accent,
                   .voice = clip->voice,
                   .data = voices->data,
                   .text = clip->text,
                   .range_percent = range_percent(voice, plan),
                   .word_gap = plan->word_gap};
    *error = INFINITY;
    bool ok = clip->text && clip->voice && approach(voice, plan, &target, &utter, seed, number, clip, error, err);
    if (!ok) {
        synth_clip_free(clip);
        fail_in(err, "clip %u, voice %s", number, voice->name);
    }
    return ok;
}

bool synth_clip(const Voices *voices, const ClipPlan *plan, uint64_t seed, uint32_t number, Clip *clip, Error *err) {
    Rng rng = rng_stream(seed, PLACE_CLIP, number, 0);
    double error = INFINITY;
    *clip = (Clip){0};
    for (int casting = 0; casting < CASTINGS && error > BEARABLE; casting++) {
        synth_clip_free(clip);
        Voice voice = *cast(voices, plan, casting);
        if (voice.rate == 0 && !synth_calibrate(&voice, voices->data, err)) return false;
        if (!try_voice(voices, &voice, plan, seed, &rng, number, clip, &error, err)) return false;
    }
    return true;
}
