#include "base/audio.h"

#include <errno.h>
#include <math.h>
#include <sndfile.h>
#include <soxr.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"

enum { CHANNELS_MAX = 64, RATE_MAX = 1000000, BLOCK = 8192 };
static const int64_t SAMPLES_MAX = (int64_t)1 << 31; /* 37 hours at 16 kHz: more is a damaged header */

/* A file's bytes in memory as libsndfile sees them. */
typedef struct Memory {
    const unsigned char *data;
    unsigned char *owned;
    sf_count_t size, capacity, at;
} Memory;

static sf_count_t memory_size(void *user) { return ((Memory *)user)->size; }

static sf_count_t memory_seek(sf_count_t offset, int whence, void *user) {
    Memory *memory = user;
    sf_count_t base = whence == SEEK_CUR ? memory->at : whence == SEEK_END ? memory->size : 0;
    sf_count_t at;
    if (__builtin_add_overflow(base, offset, &at) || at < 0) return -1;
    memory->at = at;
    return at;
}

static sf_count_t memory_read(void *to, sf_count_t count, void *user) {
    Memory *memory = user;
    sf_count_t left = memory->at < memory->size ? memory->size - memory->at : 0;
    if (count > left) count = left;
    if (count > 0) memcpy(to, memory->data + memory->at, (size_t)count);
    memory->at += count;
    return count;
}

static sf_count_t memory_write(const void *from, sf_count_t count, void *user) {
    Memory *memory = user;
    sf_count_t end = memory->at + count;
    if (end > memory->capacity) {
        sf_count_t capacity = 2 * end;
        unsigned char *grown = realloc(memory->owned, (size_t)capacity);
        if (!grown) return 0;
        memory->owned = grown;
        memory->capacity = capacity;
    }
    if (memory->at > memory->size) memset(memory->owned + memory->size, 0, (size_t)(memory->at - memory->size));
    memcpy(memory->owned + memory->at, from, (size_t)count);
    memory->at = end;
    if (end > memory->size) memory->size = end;
    memory->data = memory->owned;
    return count;
}

static sf_count_t memory_tell(void *user) { return ((Memory *)user)->at; }

static SF_VIRTUAL_IO MEMORY_IO = {memory_size, memory_seek, memory_read, memory_write, memory_tell};

/* Mixes `frames` frames to mono. A header may promise more frames than the file holds, so memory grows
 * with what is really read. */
static bool read_mono(SNDFILE *file, const SF_INFO *info, int64_t frames, const char *name, Audio *audio, Error *err) {
    size_t channels = (size_t)info->channels, capacity = 0;
    float *block = memory_new(BLOCK * channels, sizeof *block, err);
    bool ok = block != NULL;
    while (ok && audio->count < frames) {
        int64_t want = frames - audio->count < BLOCK ? frames - audio->count : BLOCK;
        sf_count_t got = sf_readf_float(file, block, want);
        if (got <= 0) break;
        if ((size_t)(audio->count + got) > capacity) {
            capacity = 2 * (size_t)(audio->count + got);
            float *grown = realloc(audio->samples, capacity * sizeof *grown);
            if (!grown) {
                ok = fail(err, "%s: out of memory for %zu samples", name, capacity);
                break;
            }
            audio->samples = grown;
        }
        for (int64_t i = 0; ok && i < got; i++) {
            float sum = 0;
            for (size_t c = 0; c < channels; c++) sum += block[(size_t)i * channels + c];
            audio->samples[audio->count + i] = sum / (float)channels;
            if (!isfinite(sum))
                ok = fail(err, "%s: sample %lld is not a finite number", name, (long long)(audio->count + i));
        }
        audio->count += got;
    }
    free(block);
    if (ok && audio->count < frames)
        ok = fail(err, "%s: damaged: it promises %lld samples and holds %lld", name, (long long)frames,
                  (long long)audio->count);
    return ok;
}

static bool resample(Audio *audio, int rate, const char *name, Error *err) {
    if (rate == 0 || rate == audio->rate) return true;
    size_t expected = (size_t)((double)audio->count * rate / audio->rate + 0.5);
    float *out = memory_new(expected + 1, sizeof *out, err);
    if (!out) return false;
    size_t made = 0;
    soxr_quality_spec_t quality = soxr_quality_spec(SOXR_VHQ, 0);
    soxr_io_spec_t io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
    soxr_error_t problem = NULL;
    if (audio->count > 0)
        problem = soxr_oneshot(audio->rate, rate, 1, audio->samples, (size_t)audio->count, NULL, out, expected, &made,
                               &io, &quality, NULL);
    if (problem) {
        free(out);
        return fail(err, "%s: cannot be resampled from %d to %d Hz: %s", name, audio->rate, rate, problem);
    }
    free(audio->samples);
    *audio = (Audio){.samples = out, .count = (int64_t)made, .rate = rate};
    return true;
}

static bool check_header(const SF_INFO *info, const char *name, Error *err) {
    if (info->channels < 1 || info->channels > CHANNELS_MAX)
        return fail(err, "%s: %d channels; 1 to %d can be read", name, info->channels, CHANNELS_MAX);
    if (info->samplerate < 1 || info->samplerate > RATE_MAX)
        return fail(err, "%s: a sample rate of %d Hz; 1 to %d can be read", name, info->samplerate, RATE_MAX);
    if (info->frames < 0 || info->frames > SAMPLES_MAX)
        return fail(err, "%s: damaged: its header promises %lld samples", name, (long long)info->frames);
    return true;
}

/* The frames of the cut [start, end) seconds. */
static bool find_cut(const SF_INFO *info, double start, double end, const char *name, int64_t *first, int64_t *last,
                     Error *err) {
    double rate = info->samplerate, duration = (double)info->frames / rate;
    double half = 0.5 / rate; /* times written with few digits may lie past the end by a rounding */
    *first = 0;
    *last = info->frames;
    if (start == 0 && end <= 0) return true;
    if (!(start >= 0) || start > duration + half)
        return fail(err, "%s: the cut starts at %g s of %g s", name, start, duration);
    *first = (int64_t)(start * rate + 0.5);
    if (end > 0) {
        if (end > duration + 0.01) return fail(err, "%s: the cut ends at %g s, the audio at %g s", name, end, duration);
        *last = (int64_t)(end * rate + 0.5);
    }
    if (*last > info->frames) *last = info->frames;
    if (*first >= *last) return fail(err, "%s: the cut from %g to %g s is empty", name, start, end);
    return true;
}

/* Takes over `file`. */
static bool read_cut(SNDFILE *file, const SF_INFO *info, double start, double end, int rate, const char *name,
                     Audio *audio, Error *err) {
    *audio = (Audio){0};
    if (!file) return fail(err, "%s: cannot be read as audio: %s", name, sf_strerror(NULL));
    int64_t first, last;
    bool ok = check_header(info, name, err) && find_cut(info, start, end, name, &first, &last, err);
    if (ok && first > 0 && sf_seek(file, first, SEEK_SET) != first)
        ok = fail(err, "%s: damaged: cannot seek to sample %lld", name, (long long)first);
    audio->rate = info->samplerate;
    ok = ok && read_mono(file, info, last - first, name, audio, err);
    if (ok && audio->count == 0) ok = fail(err, "%s: holds no sound: 0 samples", name);
    ok = ok && resample(audio, rate, name, err);
    sf_close(file);
    if (!ok) audio_free(audio);
    return ok;
}

/* libsndfile's own words for these are not clear. */
static bool check_file(const char *path, Error *err) {
    struct stat status;
    if (stat(path, &status) != 0) return fail(err, "%s: cannot be opened: %s", path, strerror(errno));
    return !S_ISDIR(status.st_mode) || fail(err, "%s: is a folder; expected a recording", path);
}

bool audio_read(Audio *audio, const char *path, double start, double end, int rate, Error *err) {
    *audio = (Audio){0};
    if (!check_file(path, err)) return false;
    SF_INFO info = {0};
    SNDFILE *file = sf_open(path, SFM_READ, &info);
    return read_cut(file, &info, start, end, rate, path, audio, err);
}

static bool end_is_there(SNDFILE *file, int64_t last) {
    float frame[CHANNELS_MAX];
    return sf_seek(file, last - 1, SEEK_SET) == last - 1 && sf_readf_float(file, frame, 1) == 1;
}

static bool reads_whole(const char *path, double start, double end, Error *err) {
    Audio audio;
    if (!audio_read(&audio, path, start, end, 0, err)) return false;
    audio_free(&audio);
    return true;
}

bool audio_probe(const char *path, double start, double end, double *seconds, Error *err) {
    if (!check_file(path, err)) return false;
    SF_INFO info = {0};
    SNDFILE *file = sf_open(path, SFM_READ, &info);
    if (!file) return fail(err, "%s: cannot be read as audio: %s", path, sf_strerror(NULL));
    int64_t first, last;
    bool ok = check_header(&info, path, err) && find_cut(&info, start, end, path, &first, &last, err);
    if (ok && last <= first) ok = fail(err, "%s: holds no sound: 0 samples", path);
    bool there = ok && end_is_there(file, last);
    sf_close(file);
    /* Damage may hinder the search for the end alone. */
    if (!ok || (!there && !reads_whole(path, start, end, err))) return false;
    *seconds = (double)(last - first) / info.samplerate;
    return true;
}

bool audio_decode(Audio *audio, const void *data, size_t size, const char *name, int rate, Error *err) {
    SF_INFO info = {0};
    Memory memory = {.data = data, .size = (sf_count_t)size};
    SNDFILE *file = sf_open_virtual(&MEMORY_IO, SFM_READ, &info, &memory);
    return read_cut(file, &info, 0, 0, rate, name, audio, err);
}

static int16_t to_pcm16(float sample) {
    float scaled = sample * 32768.0f;
    if (scaled >= 32767.0f) return INT16_MAX;
    if (scaled <= -32768.0f) return INT16_MIN;
    return (int16_t)lrintf(scaled);
}

bool audio_encode(const Audio *audio, AudioFormat format, unsigned char **data, size_t *size, Error *err) {
    SF_INFO info = {.samplerate = audio->rate,
                    .channels = 1,
                    .format = (format == AUDIO_FLAC ? SF_FORMAT_FLAC : SF_FORMAT_WAV) | SF_FORMAT_PCM_16};
    if (audio->count == 0) return fail(err, "audio of no samples cannot be encoded");
    Memory memory = {0};
    SNDFILE *file = sf_open_virtual(&MEMORY_IO, SFM_WRITE, &info, &memory);
    if (!file) return fail(err, "audio of %d Hz cannot be encoded: %s", audio->rate, sf_strerror(NULL));
    int16_t block[BLOCK];
    bool ok = true;
    for (int64_t at = 0; ok && at < audio->count; at += BLOCK) {
        int64_t count = audio->count - at < BLOCK ? audio->count - at : BLOCK;
        for (int64_t i = 0; i < count; i++) block[i] = to_pcm16(audio->samples[at + i]);
        ok = sf_writef_short(file, block, count) == count;
    }
    ok = sf_close(file) == 0 && ok;
    if (!ok) {
        free(memory.owned);
        return fail(err, "audio of %lld samples cannot be encoded", (long long)audio->count);
    }
    *data = memory.owned;
    *size = (size_t)memory.size;
    return true;
}

void audio_free(Audio *audio) {
    free(audio->samples);
    *audio = (Audio){0};
}
