#include <math.h>

#include "data/features.h"
#include "data/pitch.h"

enum { FRAME_STEP = 320, FRAME_SIZE = 400 };

/* 10 log10 of the mean square of a frame's samples, those there are. */
static float frame_energy(const Audio *audio, int64_t frame) {
    int64_t first = frame * FRAME_STEP, last = first + FRAME_SIZE;
    if (last > audio->count) last = audio->count;
    double sum = 0;
    for (int64_t i = first; i < last; i++) sum += (double)audio->samples[i] * (double)audio->samples[i];
    double mean = last > first ? sum / (double)(last - first) : 0;
    return (float)((10 * log10(mean + 1e-10) + 30) / 15);
}

static void write_pitch(const Contour *pitch, int rate, int64_t frames, float *out) {
    for (int64_t t = 0; t < frames; t++) {
        double centre = (double)(t * FRAME_STEP + FRAME_SIZE / 2) / rate, hz = pitch_at(pitch, centre);
        out[3 * t + 1] = hz > 0 ? (float)log2(hz / 150) : 0;
        out[3 * t + 2] = hz > 0;
    }
}

bool features_prosody(const Audio *audio, int channels, int64_t frames, float *out, Error *err) {
    if (channels != 1 && channels != 3)
        return fail(err, "prosody has 1 channel (energy) or 3 (energy, F0, voicing), not %d", channels);
    for (int64_t t = 0; t < frames; t++) out[channels * t] = frame_energy(audio, t);
    if (channels == 1) return true;
    Contour pitch;
    PitchOptions options = pitch_options_default();
    if (!pitch_track(audio, &options, &pitch, err)) return false;
    write_pitch(&pitch, audio->rate, frames, out);
    contour_free(&pitch);
    return true;
}
