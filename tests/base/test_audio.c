/* Audio in and out: formats, cuts, resampling, and files that lie. */
#include "tests/test.h"

#include <math.h>
#include <sndfile.h>

static Audio tone(double hz, int64_t count, int rate) {
    Audio audio = {.samples = calloc((size_t)count + 1, sizeof(float)), .count = count, .rate = rate};
    for (int64_t i = 0; i < count; i++)
        audio.samples[i] = (float)(0.5 * sin(2 * 3.14159265358979 * hz * (double)i / rate));
    return audio;
}

static void round_trip(void **state) {
    (void)state;
    for (int format = AUDIO_FLAC; format <= AUDIO_WAV; format++) {
        for (int64_t count = 1; count < 40000; count = count * 3 + 1) {
            Error err = {0};
            Audio audio = tone(300, count, 16000), back;
            unsigned char *data, *again;
            size_t size, size_again;
            assert_ok(audio_encode(&audio, (AudioFormat)format, &data, &size, &err), &err);
            assert_ok(audio_encode(&audio, (AudioFormat)format, &again, &size_again, &err), &err);
            assert_int_equal(size, size_again);
            assert_memory_equal(data, again, size);
            assert_ok(audio_decode(&back, data, size, "memory", 16000, &err), &err);
            assert_int_equal(back.count, count);
            for (int64_t i = 0; i < count; i++) assert_true(fabsf(back.samples[i] - audio.samples[i]) <= 0.5f / 32768);
            free(data);
            free(again);
            audio_free(&audio);
            audio_free(&back);
        }
    }
}

/* FLAC has no form for nothing at all. */
static void empty(void **state) {
    (void)state;
    Error err = {0};
    Audio audio = {.rate = 16000};
    unsigned char *data;
    size_t size;
    assert_false(audio_encode(&audio, AUDIO_FLAC, &data, &size, &err));
    assert_non_null(strstr(err.text, "no samples"));
}

static char *write_stereo(const char *name, int rate, int frames, int format) {
    char *path = test_path(name);
    SF_INFO info = {.samplerate = rate, .channels = 2, .format = format};
    SNDFILE *file = sf_open(path, SFM_WRITE, &info);
    for (int i = 0; i < frames; i++) {
        float frame[2] = {0.5f, (float)(0.25 * sin(2 * 3.14159265358979 * 440 * i / rate))};
        sf_writef_float(file, frame, 1);
    }
    sf_close(file);
    return path;
}

static void stereo_and_rates(void **state) {
    (void)state;
    Error err = {0};
    Audio audio;
    char *path = write_stereo("stereo.wav", 48000, 48000, SF_FORMAT_WAV | SF_FORMAT_FLOAT);
    assert_ok(audio_read(&audio, path, 0, 0, 0, &err), &err);
    assert_int_equal(audio.count, 48000);
    assert_int_equal(audio.rate, 48000);
    assert_true(fabsf(audio.samples[0] - 0.25f) < 1e-6f);
    audio_free(&audio);
    assert_ok(audio_read(&audio, path, 0, 0, AUDIO_RATE, &err), &err);
    assert_int_equal(audio.count, 16000);
    for (int i = 1000; i < 15000; i++) { /* a 440 Hz tone over its offset, resampled exactly */
        double expected = 0.25 + 0.125 * sin(2 * 3.14159265358979 * 440 * i / 16000);
        assert_true(fabs(audio.samples[i] - expected) < 1e-4);
    }
    audio_free(&audio);
    assert_ok(audio_read(&audio, path, 0.25, 0.75, 0, &err), &err);
    assert_int_equal(audio.count, 24000);
    audio_free(&audio);
    assert_false(audio_read(&audio, path, 0.5, 2, 0, &err));
    assert_non_null(strstr(err.text, "ends at 2 s"));
    err = (Error){0};
    assert_false(audio_read(&audio, path, 0.5, 0.5, 0, &err));
    err = (Error){0};
    assert_false(audio_read(&audio, path, -1, 0, 0, &err));
    free(path);
}

static void refused(const unsigned char *data, size_t size) {
    Error err = {0};
    Audio audio;
    if (audio_decode(&audio, data, size, "damaged.bin", 16000, &err)) {
        for (int64_t i = 0; i < audio.count; i++) assert_true(isfinite(audio.samples[i]));
        audio_free(&audio);
    } else {
        assert_non_null(strstr(err.text, "damaged.bin"));
        assert_null(audio.samples);
    }
}

/* Truncations and bit flips of WAV and FLAC: an error that names the file, or finite samples. */
static void damaged_files(void **state) {
    (void)state;
    for (int format = AUDIO_FLAC; format <= AUDIO_WAV; format++) {
        Error err = {0};
        Audio audio = tone(200, 3000, 16000);
        unsigned char *data;
        size_t size;
        assert_ok(audio_encode(&audio, (AudioFormat)format, &data, &size, &err), &err);
        for (size_t cut = 0; cut < size; cut += cut < 100 ? 1 : 97) {
            unsigned char *part = malloc(cut + 1);
            memcpy(part, data, cut);
            refused(part, cut);
            free(part);
        }
        Rng rng = rng_stream(7, 0, 0, 0);
        for (int i = 0; i < 300; i++) {
            unsigned char *copy = malloc(size);
            memcpy(copy, data, size);
            uint32_t span = i < 200 ? 64 : (uint32_t)size;
            copy[rng_below(&rng, span < size ? span : (uint32_t)size)] ^= (unsigned char)(1u << rng_below(&rng, 8));
            refused(copy, size);
            free(copy);
        }
        free(data);
        audio_free(&audio);
    }
}

static void probed(void **state) {
    (void)state;
    Error err = {0};
    double seconds;
    char *path = write_stereo("probed.flac", 48000, 36000, SF_FORMAT_FLAC | SF_FORMAT_PCM_16);
    assert_ok(audio_probe(path, 0, 0, &seconds, &err), &err);
    assert_true(seconds == 0.75);
    assert_ok(audio_probe(path, 0.25, 0.5, &seconds, &err), &err);
    assert_true(seconds == 0.25);
    assert_false(audio_probe(path, 0.5, 2, &seconds, &err));
    assert_non_null(strstr(err.text, "ends at 2 s"));
    free(path);
}

/* Whatever can be read whole has the length that the probe says; a FLAC that was cut is found out by the probe. */
static void probed_damaged(void **state) {
    (void)state;
    char *whole = write_stereo("whole.flac", 8000, 20000, SF_FORMAT_FLAC | SF_FORMAT_PCM_16);
    char *path = test_path("part.flac");
    size_t size;
    char *data = file_read(whole, 1 << 20, &size, NULL);
    for (size_t cut = 0; cut < size; cut += cut < 100 ? 1 : 997) {
        Error err = {0};
        double seconds;
        unlink(path);
        FILE *file = fopen(path, "wb");
        assert_int_equal(fwrite(data, 1, cut, file), cut);
        fclose(file);
        if (audio_probe(path, 0, 0, &seconds, &err)) fail_msg("%zu of %zu bytes were accepted", cut, size);
        assert_non_null(strstr(err.text, "part.flac"));
    }
    Rng rng = rng_stream(9, 0, 0, 0);
    for (int i = 0; i < 200; i++) {
        Error err = {0};
        Audio audio;
        double seconds;
        char *copy = malloc(size);
        memcpy(copy, data, size);
        copy[rng_below(&rng, 64)] ^= (char)(1u << rng_below(&rng, 8));
        unlink(path);
        FILE *file = fopen(path, "wb");
        fwrite(copy, 1, size, file);
        fclose(file);
        bool is_there = audio_probe(path, 0, 0, &seconds, &err);
        assert_true(is_there || strstr(err.text, "part.flac"));
        if (audio_read(&audio, path, 0, 0, 0, &err)) {
            assert_true(is_there && seconds == (double)audio.count / audio.rate);
            audio_free(&audio);
        }
        free(copy);
    }
    free(data);
    free(path);
    free(whole);
}

static void not_finite(void **state) {
    (void)state;
    char *path = test_path("nan.wav");
    SF_INFO info = {.samplerate = 16000, .channels = 1, .format = SF_FORMAT_WAV | SF_FORMAT_FLOAT};
    SNDFILE *file = sf_open(path, SFM_WRITE, &info);
    float samples[500] = {0};
    samples[123] = NAN;
    sf_writef_float(file, samples, 500);
    sf_close(file);
    Error err = {0};
    Audio audio;
    assert_false(audio_read(&audio, path, 0, 0, 16000, &err));
    assert_non_null(strstr(err.text, "sample 123"));
    err = (Error){0};
    assert_false(audio_read(&audio, "no/such/file.wav", 0, 0, 16000, &err));
    assert_non_null(strstr(err.text, "no/such/file.wav"));
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),    cmocka_unit_test(empty),  cmocka_unit_test(stereo_and_rates),
        cmocka_unit_test(damaged_files), cmocka_unit_test(probed), cmocka_unit_test(probed_damaged),
        cmocka_unit_test(not_finite),
    };
    return cmocka_run_group_tests_name("audio", tests, NULL, test_cleanup);
}
