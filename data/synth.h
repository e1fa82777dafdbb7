/* semollm synth: emotional speech from the espeak-ng program, as a corpus whose every cue is known. Private to data/.
 */
#ifndef SEMOLLM_DATA_SYNTH_H
#define SEMOLLM_DATA_SYNTH_H

#include "base/base.h"
#include "data/levels.h"

/* Three sets of voices that share none: training voices are random ones (always the same), the other two
 * are espeak-ng's own, by name. */
typedef enum VoiceSet { VOICES_TRAIN, VOICES_DEV, VOICES_TEST, VOICE_SETS } VoiceSet;
extern const char *const VOICE_SET_NAMES[VOICE_SETS];

typedef struct Voice {
    char name[32];
    bool female;
    double f0_hz, rate; /* measured: median F0 at -p 50, syllables a second at -s 150; 0: not yet */
    double range_st;    /* and how far its F0 moves, unasked */
} Voice;

typedef struct Voices {
    Voice *items; /* women first */
    int count, women;
    char *data; /* folder for ESPEAK_DATA_PATH where random voices stand beside the installed data */
} Voices;

/* Writes the random voices' files under `folder`/voices. */
bool voices_open(Voices *voices, VoiceSet set, const char *folder, Error *err);
void voices_close(Voices *voices);

typedef enum SynthEmotion { EMOTION_ANGRY, EMOTION_HAPPY, EMOTION_NEUTRAL, EMOTION_SAD, SYNTH_EMOTIONS } SynthEmotion;
extern const char *const SYNTH_EMOTION_NAMES[SYNTH_EMOTIONS];

/* What a clip is to be: the emotion, its three level cues and two further carriers. */
typedef struct ClipPlan {
    SynthEmotion emotion;
    bool female;
    int voice;            /* in Voices */
    int level[CUE_COUNT]; /* 0 1 2 */
    double range_st;      /* how far F0 is to move; 0: as the voice does unasked */
    int word_gap;         /* espeak-ng's -g */
} ClipPlan;

/* All plans of a corpus: levels in exact thirds for each gender, every voice equally often. */
ClipPlan *synth_plan(const Voices *voices, int64_t clips, uint64_t seed, Error *err);

/* A sentence of about `syllables` syllables; free() it. */
char *synth_sentence(Rng *rng, double syllables, Error *err);

/* How espeak-ng is called. */
typedef struct Utter {
    const char *accent, *voice, *data, *text;
    double pitch, speed; /* -p, -s */
    int range_percent, word_gap;
} Utter;

/* Runs espeak-ng and returns its speech at 16 kHz without the silence around it. */
bool espeak_speak(const Utter *utter, Audio *audio, Error *err);

/* Where the installed program keeps its data; free() it. Fails with what to install where there is none. */
char *espeak_data(Error *err);

/* One clip made to its plan: synthesised, measured, corrected until F0 and rate are where they should be. */
typedef struct Clip {
    Audio audio;
    const char *accent;
    char *voice, *text;
} Clip;

bool synth_clip(const Voices *voices, const ClipPlan *plan, uint64_t seed, uint32_t number, Clip *clip, Error *err);
void synth_clip_free(Clip *clip);

/* Measures a voice as espeak-ng speaks it unasked, so that clips start near their targets. */
bool synth_calibrate(Voice *voice, const char *data, Error *err);

typedef struct SynthOptions {
    const char *folder;
    int64_t clips, test_clips; /* by the training voices; by test_voices */
    VoiceSet test_voices;
    uint64_t seed;
    int jobs; /* 0: one per core */
} SynthOptions;

/* FOLDER/audio/ID.flac and FOLDER/manifest.jsonl; a killed run goes on where it was. */
bool synth_corpus(const SynthOptions *options, Error *err);

#endif
