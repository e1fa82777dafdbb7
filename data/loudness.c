#include "data/loudness.h"

#include <ebur128.h>
#include <math.h>

/* The momentary loudness is that of the last 0.4 s, zeros where there was nothing yet; spread over
 * the samples there are, it is the loudness of the whole short sound. */
static int short_loudness(ebur128_state *state, const Audio *audio, int64_t block, double *lufs) {
    int status = ebur128_loudness_momentary(state, lufs);
    *lufs += 10 * log10((double)block / (double)audio->count);
    return status;
}

bool loudness_measure(const Audio *audio, double *lufs, Error *err) {
    *lufs = NAN;
    if (audio->count == 0) return true;
    ebur128_state *state = ebur128_init(1, (unsigned long)audio->rate, EBUR128_MODE_I);
    if (!state) return fail(err, "loudness cannot be measured at a sample rate of %d Hz", audio->rate);
    int64_t block = 4 * ((audio->rate + 5) / 10);
    int status = ebur128_add_frames_float(state, audio->samples, (size_t)audio->count);
    if (status == EBUR128_SUCCESS)
        status =
            audio->count < block ? short_loudness(state, audio, block, lufs) : ebur128_loudness_global(state, lufs);
    ebur128_destroy(&state);
    if (status != EBUR128_SUCCESS) return fail(err, "loudness cannot be measured: libebur128 gives error %d", status);
    if (!isfinite(*lufs)) *lufs = NAN;
    return true;
}
