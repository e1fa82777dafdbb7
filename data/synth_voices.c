/* Voices: random variants for training, espeak-ng's own for development and test. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/synth.h"

const char *const VOICE_SET_NAMES[VOICE_SETS] = {"train", "dev", "test"};

enum { RANDOM_VOICES = 80, VOICE_SEED = 20, PLACE_VOICE = PLACE_TEMPLATE + 1 };

/* espeak-ng's voices come in families with nearly the same formants; no family is in both sets. Left out
 * are robots, whispers, those that cannot reach the F0 wanted, and those whose F0 moves by less than 3.5
 * semitones unasked (aunty, steph, Andrea, belinda, linda): they cannot sound lively. */
static const char *const DEV_WOMEN[] = {"f1", "f4", "Alicia", "anika", NULL};
static const char *const DEV_MEN[] = {"m1", "m2", "Andy", "Gene2", "antonio", "Jacky", "max", "sandro", NULL};
static const char *const TEST_WOMEN[] = {"f2", "f3", "f5", "Annie", "grandma", NULL};
static const char *const TEST_MEN[] = {"m3", "m7", "Michael", "Diogo", "ed", "travis", "john", "pedro", NULL};

/* ---- random voices ---- */

static double between(Rng *rng, double low, double high) { return low + (high - low) * rng_uniform(rng_next(rng)); }

static bool chance(Rng *rng, double share) { return rng_uniform(rng_next(rng)) < share; }

/* One draw a statement: C leaves open in which order a call's arguments are drawn. */
static void add_number(Text *text, const char *before, Rng *rng, double low, double high) {
    text_addf(text, "%s%.0f", before, between(rng, low, high));
}

static void add_numbers(Text *text, const char *key, Rng *rng, int count, double low, double high) {
    text_add_string(text, key);
    for (int i = 0; i < count; i++) add_number(text, " ", rng, low, high);
    text_add_string(text, "\n");
}

static void add_formant(Text *text, Rng *rng, int number, double place, double low, double high) {
    text_addf(text, "formant %d %.0f", number, place);
    add_number(text, " ", rng, low, high);
    add_numbers(text, "", rng, 1, 75, 165);
}

/* Formants 1 to 8 lie where a vocal tract of one length puts them; formant 0 is the lowest harmonics'. */
static void add_formants(Text *text, Rng *rng, bool female) {
    double tract = female ? between(rng, 106, 128) : between(rng, 88, 106);
    add_formant(text, rng, 0, between(rng, 88, 120), 80, 150);
    for (int i = 1; i < 6; i++) add_formant(text, rng, i, tract * between(rng, 0.93, 1.07), 55, 130);
    for (int i = 6; i < 9; i++) add_formant(text, rng, i, tract * between(rng, 0.93, 1.07), 20, 110);
}

static void add_tone(Text *text, Rng *rng) {
    add_number(text, "tone 600 ", rng, 100, 255);
    add_number(text, " 1200 ", rng, 60, 255);
    add_numbers(text, " 2000", rng, 1, 30, 120);
}

static void add_echo(Text *text, Rng *rng) {
    add_number(text, "echo ", rng, 20, 150);
    add_numbers(text, "", rng, 1, 5, 40);
}

/* What makes a voice itself besides formants: each is there in some voices. */
static void add_character(Text *text, Rng *rng) {
    add_numbers(text, "flutter", rng, 1, 0, 12);
    add_numbers(text, "roughness", rng, 1, 0, 5);
    add_numbers(text, "consonants", rng, 2, 60, 150);
    if (chance(rng, 0.6)) add_numbers(text, "voicing", rng, 1, 50, 150);
    if (chance(rng, 0.3)) add_numbers(text, "breath 0", rng, 7, 0, 8);
    if (chance(rng, 0.3)) add_tone(text, rng);
    if (chance(rng, 0.25)) add_echo(text, rng);
    if (chance(rng, 0.5)) add_numbers(text, "stressAdd", rng, 8, -20, 50);
    if (chance(rng, 0.5)) add_numbers(text, "stressAmp", rng, 8, 14, 30);
    if (chance(rng, 0.25)) add_numbers(text, "intonation", rng, 1, 1, 4);
    if (chance(rng, 0.15)) add_numbers(text, "klatt", rng, 1, 1, 5);
}

static void add_pitch(Text *text, Rng *rng, bool female) {
    double low = female ? between(rng, 130, 170) : between(rng, 75, 95);
    text_addf(text, "pitch %.0f %.0f\n", low, low * between(rng, 1.35, 1.7));
}

static bool write_voice(const char *path, Rng *rng, bool female, Error *err) {
    Text text = {0};
    text_addf(&text, "language variant\ngender %s\n", female ? "female" : "male");
    add_pitch(&text, rng, female);
    add_formants(&text, rng, female);
    add_character(&text, rng);
    char *written = text_finish(&text, err);
    bool ok = written && file_write(path, written, strlen(written), err);
    free(written);
    return ok;
}

/* espeak-ng takes voices from its data folder alone, so a folder of links to that is made. */
static bool link_data(const char *data, const char *to, Error *err) {
    Names names = {0};
    bool ok = folder_list(data, &names, err);
    for (size_t i = 0; ok && i < names.count; i++) {
        if (strcmp(names.items[i], "voices") == 0) continue;
        char *source = path_join(data, names.items[i], err), *target = path_join(to, names.items[i], err);
        ok = source && target;
        if (ok && symlink(source, target) != 0 && errno != EEXIST)
            ok = fail(err, "%s: cannot link to %s: %s", target, source, strerror(errno));
        free(source);
        free(target);
    }
    names_free(&names);
    return ok;
}

static bool write_random_voices(Voices *voices, const char *variants, Error *err) {
    bool ok = true;
    for (int i = 0; ok && i < voices->count; i++) {
        Voice *voice = &voices->items[i];
        Rng rng = rng_stream(VOICE_SEED, PLACE_VOICE, (uint32_t)i, 0);
        snprintf(voice->name, sizeof voice->name, "random%02d", i);
        voice->female = i < voices->women;
        char *path = path_join(variants, voice->name, err);
        ok = path && write_voice(path, &rng, voice->female, err);
        free(path);
    }
    return ok;
}

static bool make_random_voices(Voices *voices, const char *folder, Error *err) {
    voices->count = RANDOM_VOICES;
    voices->women = RANDOM_VOICES / 2;
    voices->items = memory_new(RANDOM_VOICES, sizeof *voices->items, err);
    voices->data = path_join(folder, "voices", err);
    char *installed = espeak_data(err);
    char *data = voices->data ? path_join(voices->data, "espeak-ng-data", err) : NULL;
    char *variants = data ? path_join(data, "voices/!v", err) : NULL;
    bool ok = voices->items && installed && variants && folder_make(variants, err) && link_data(installed, data, err) &&
              write_random_voices(voices, variants, err);
    free(installed);
    free(data);
    free(variants);
    return ok;
}

/* ---- espeak-ng's own ---- */

static bool take_named(Voices *voices, const char *const *women, const char *const *men, Error *err) {
    while (women[voices->women]) voices->women++;
    voices->count = voices->women;
    while (men[voices->count - voices->women]) voices->count++;
    voices->items = memory_new((size_t)voices->count, sizeof *voices->items, err);
    if (!voices->items) return false;
    for (int i = 0; i < voices->count; i++) {
        Voice *voice = &voices->items[i];
        voice->female = i < voices->women;
        snprintf(voice->name, sizeof voice->name, "%s", voice->female ? women[i] : men[i - voices->women]);
    }
    return true;
}

bool voices_open(Voices *voices, VoiceSet set, const char *folder, Error *err) {
    *voices = (Voices){0};
    bool ok = false;
    if (set == VOICES_TRAIN) ok = make_random_voices(voices, folder, err);
    if (set == VOICES_DEV) ok = take_named(voices, DEV_WOMEN, DEV_MEN, err);
    if (set == VOICES_TEST) ok = take_named(voices, TEST_WOMEN, TEST_MEN, err);
    if (!ok) voices_close(voices);
    return ok;
}

void voices_close(Voices *voices) {
    free(voices->items);
    free(voices->data);
    *voices = (Voices){0};
}
