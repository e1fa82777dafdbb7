/* Audio in and out: any format libsndfile reads, mixed to mono (mean of the channels) and resampled
 * by libsoxr (very high quality). */
#ifndef SEMOLLM_BASE_AUDIO_H
#define SEMOLLM_BASE_AUDIO_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { AUDIO_RATE = 16000 };

typedef struct Audio {
    float *samples; /* [count], in [-1, 1] */
    int64_t count;
    int rate; /* Hz */
} Audio;

/* Reads `path` from `start` to `end` seconds (end <= 0: to its end; a cut past the end is an error)
 * at `rate` Hz (0: the file's own). NaN or infinite samples, an empty cut and damaged files are
 * errors that name the file. */
bool audio_read(Audio *audio, const char *path, double start, double end, int rate, Error *err);

/* How long the same cut of `path` is, from its header; its last sample must be there. Reads little of it. */
bool audio_probe(const char *path, double start, double end, double *seconds, Error *err);

/* The same as audio_read from a file's bytes in memory; `name` is for errors. */
bool audio_decode(Audio *audio, const void *data, size_t size, const char *name, int rate, Error *err);

/* 16-bit mono FLAC or WAV bytes of at least one sample (samples are clipped to [-1, 1]); free() them. The bytes depend
 * on the samples alone. */
typedef enum AudioFormat { AUDIO_FLAC, AUDIO_WAV } AudioFormat;
bool audio_encode(const Audio *audio, AudioFormat format, unsigned char **data, size_t *size, Error *err);

void audio_free(Audio *audio);

#endif
