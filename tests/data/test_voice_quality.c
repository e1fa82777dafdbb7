/* What voice quality is made of: roots, resampling, pulses, formants; and sounds made to break them. */
#include "tests/test.h"

#include <limits.h>
#include <math.h>

#include "data/features.h"
#include "data/formants.h"
#include "data/pitch.h"
#include "data/pulses.h"
#include "data/resample.h"
#include "data/roots.h"

static const double PI = 3.14159265358979323846;

static double uniform(uint64_t seed, uint32_t i) { return philox(seed, i, 0, 0, 0).word[0] * 0x1p-32; }

static Audio audio_new(int64_t count, int rate) {
    Audio audio = {memory_new((size_t)count, sizeof(float), NULL), count, rate};
    assert_non_null(audio.samples);
    return audio;
}

/* --- roots --- */

/* Multiplies by x² - 2 re x + re² + im², or by x - re where im is 0. */
static int multiply(double *c, int degree, Root root) {
    double q[ROOTS_MOST + 3] = {0};
    if (root.imaginary == 0) {
        for (int i = 0; i <= degree; i++) {
            q[i + 1] += c[i];
            q[i] -= root.real * c[i];
        }
        memcpy(c, q, sizeof(double) * (size_t)(degree + 2));
        return degree + 1;
    }
    for (int i = 0; i <= degree; i++) {
        q[i + 2] += c[i];
        q[i + 1] -= 2 * root.real * c[i];
        q[i] += (root.real * root.real + root.imaginary * root.imaginary) * c[i];
    }
    memcpy(c, q, sizeof(double) * (size_t)(degree + 3));
    return degree + 2;
}

/* Each root of a polynomial made from roots near the unit circle, as LPC's are, is found once. */
static void roots_are_found(void **state) {
    (void)state;
    for (uint32_t seed = 0; seed < 2000; seed++) {
        double c[ROOTS_MOST + 3] = {1};
        Root made[ROOTS_MOST], found[ROOTS_MOST];
        int degree = 0, count = 0;
        while (degree < ROOTS_MOST) {
            double radius = 0.3 + 0.69 * uniform(seed, (uint32_t)(3 * count)),
                   angle = PI * uniform(seed, 3u * (uint32_t)count + 1);
            bool real = degree == ROOTS_MOST - 1 || uniform(seed, 3u * (uint32_t)count + 2) < 0.1;
            made[count] =
                real ? (Root){angle < PI / 2 ? radius : -radius, 0} : (Root){radius * cos(angle), radius * sin(angle)};
            degree = multiply(c, degree, made[count++]);
        }
        for (int i = 0; i < ROOTS_MOST; i++) found[i] = (Root){cos(0.6 * i), sin(0.6 * i)};
        assert_int_equal(roots_find(c, degree, found), count);
        for (int i = 0; i < count; i++) {
            double nearest = INFINITY;
            for (int k = 0; k < count; k++)
                nearest = fmin(nearest, hypot(made[i].real - found[k].real, made[i].imaginary - found[k].imaginary));
            assert_true(nearest < 1e-5); /* roots that nearly meet are known the worse */
        }
    }
}

static void roots_of_odd_polynomials(void **state) {
    (void)state;
    static const double POLYNOMIALS[][ROOTS_MOST + 1] = {
        {[10] = 1},                                 /* ten roots at 0 */
        {-1, [10] = 1},                             /* on the unit circle */
        {1, [10] = 1},      {[5] = -0.5, [10] = 1}, /* five at 0 */
        {1e-300, [10] = 1}, {1e6, [9] = 1e6, [10] = 1},
    };
    for (size_t i = 0; i < sizeof POLYNOMIALS / sizeof *POLYNOMIALS; i++) {
        Root roots[ROOTS_MOST] = {{0, 0}};
        int count = roots_find(POLYNOMIALS[i], ROOTS_MOST, roots), degree = 0;
        for (int k = 0; k < count; k++) {
            assert_true(isfinite(roots[k].real) && isfinite(roots[k].imaginary) && roots[k].imaginary >= 0);
            degree += roots[k].imaginary > 0 ? 2 : 1;
        }
        assert_int_equal(degree, ROOTS_MOST);
    }
}

/* --- resampling --- */

static double sine(double hz, double time) { return 0.5 * sin(2 * PI * hz * time); }

/* Away from the ends a sine stays that sine, and one over half the new rate goes. */
static void resample_sine(int rate, int to, double seconds) {
    Error err = {0};
    Audio in = audio_new((int64_t)(seconds * rate), rate), out;
    double kept = 0.4 * (rate < to ? rate : to), gone = 0.5 * to + 0.8 * (0.5 * rate - 0.5 * to);
    for (int64_t i = 0; i < in.count; i++) {
        double time = ((double)i + 0.5) / rate;
        in.samples[i] = (float)(sine(kept, time) + (rate > 1.2 * to ? sine(gone, time) : 0));
    }
    assert_ok(resample_praat(&in, to, &out, &err), &err);
    assert_int_equal(out.count, (int64_t)floor((double)in.count / rate * to + 0.5));
    double offset = 0.5 * ((double)in.count / rate - (double)out.count / to), worst = 0;
    for (int64_t i = to / 20; i < out.count - to / 20; i++)
        worst = fmax(worst, fabs((double)out.samples[i] - sine(kept, offset + ((double)i + 0.5) / to)));
    if (!(worst < 2e-3)) fail_msg("%d to %d Hz: %g", rate, to, worst);
    audio_free(&in);
    audio_free(&out);
}

static void resampling(void **state) {
    (void)state;
    static const int RATES[] = {8000, 11000, 11025, 16000, 22050, 44100, 48000, 15991};
    for (size_t i = 0; i < sizeof RATES / sizeof *RATES; i++) {
        resample_sine(RATES[i], 11000, 0.5);
        resample_sine(RATES[i], 10000, 0.5);
    }
    resample_sine(16000, 11000, 40); /* in several blocks */
}

/* Lengths that put new samples right on old ones: none may slip to the sample beside it. */
static void places_on_samples(void **state) {
    (void)state;
    for (int64_t count = 61920; count < 61940; count++) {
        Error err = {0};
        Audio in = audio_new(count, 16000), out;
        for (int64_t i = 0; i < count; i++) in.samples[i] = (float)sine(1000, ((double)i + 0.5) / 16000);
        assert_ok(resample_praat(&in, 11000, &out, &err), &err);
        double offset = 0.5 * ((double)in.count / 16000 - (double)out.count / 11000), worst = 0;
        for (int64_t i = 500; i < out.count - 500; i++)
            worst = fmax(worst, fabs((double)out.samples[i] - sine(1000, offset + ((double)i + 0.5) / 11000)));
        if (!(worst < 2e-3)) fail_msg("%d samples: %g", (int)count, worst);
        audio_free(&in);
        audio_free(&out);
    }
}

static void resampling_of_little(void **state) {
    (void)state;
    static const int RATES[] = {1000, 8000, 16000, 192000};
    for (int64_t count = 0; count < 130; count++)
        for (size_t r = 0; r < sizeof RATES / sizeof *RATES; r++) {
            Error err = {0};
            Audio in = audio_new(count, RATES[r]), out;
            for (int64_t i = 0; i < count; i++) in.samples[i] = (float)(i % 7) - 3;
            assert_ok(resample_praat(&in, 11000, &out, &err), &err);
            for (int64_t i = 0; i < out.count; i++) assert_true(isfinite(out.samples[i]));
            audio_free(&in);
            audio_free(&out);
        }
}

/* --- pulses --- */

/* Clicks through a resonance, whose periods are long and short by turns. */
static Audio clicks(double f0, double difference, double seconds, int rate) {
    Audio audio = audio_new((int64_t)(seconds * rate), rate);
    double time = 0.01;
    for (int n = 0; time < seconds; n++) {
        for (int64_t i = (int64_t)ceil(time * rate); i < audio.count && (double)i < (time + 0.03) * rate; i++) {
            double after = (double)i / rate - time;
            audio.samples[i] += (float)(0.3 * exp(-300 * after) * sin(2 * PI * 700 * after));
        }
        time += (1 + (n % 2 ? difference : -difference)) / f0;
    }
    return audio;
}

/* Periods (1 ± d) / f0 by turns have a local jitter of 2 d; likening whole periods to each other blurs it a little. */
static void jitter_is_measured(void **state) {
    (void)state;
    static const double DIFFERENCES[] = {0, 0.005, 0.01, 0.02};
    for (size_t i = 0; i < sizeof DIFFERENCES / sizeof *DIFFERENCES; i++) {
        Error err = {0};
        Audio audio = clicks(120, DIFFERENCES[i], 1, 16000);
        PitchOptions options = pitch_options_default();
        Contour pitch;
        Pulses pulses;
        double shimmer;
        assert_ok(pitch_track(&audio, &options, &pitch, &err) && pulses_find(&audio, &pitch, &pulses, &err), &err);
        assert_true(pulses.count > 100 && pulses.count < 125);
        if (!(fabs(pulses_jitter(&pulses) - 2 * DIFFERENCES[i]) < 0.001 + 0.5 * DIFFERENCES[i]))
            fail_msg("jitter is %g, not %g", pulses_jitter(&pulses), 2 * DIFFERENCES[i]);
        assert_ok(pulses_shimmer(&pulses, &audio, &shimmer, &err), &err);
        assert_true(shimmer >= 0 && shimmer < 0.15);
        pulses_free(&pulses);
        contour_free(&pitch);
        audio_free(&audio);
    }
}

static void too_few_pulses(void **state) {
    (void)state;
    Audio audio = audio_new(1600, 16000);
    double times[] = {0.01, 0.02, 0.03};
    for (size_t count = 0; count <= 3; count++) {
        Error err = {0};
        Pulses pulses = {times, count, 3};
        double shimmer;
        assert_int_equal(isnan(pulses_jitter(&pulses)), count < 3);
        assert_ok(pulses_shimmer(&pulses, &audio, &shimmer, &err), &err);
        assert_true(isnan(shimmer));
    }
    audio_free(&audio);
}

/* --- formants --- */

/* Pulses and a little noise, falling by 6 dB an octave, through resonances of known frequencies. */
static Audio vowel(const double *hz, int count, int rate) {
    Audio audio = audio_new(rate, rate);
    float fall = (float)exp(-2 * PI * 50 / rate);
    for (int64_t i = 0; i < audio.count; i++)
        audio.samples[i] = (float)((i % (rate / 110) == 0 ? 1 : 0) + 0.002 * (uniform(9, (uint32_t)i) - 0.5)) +
                           (i ? fall * audio.samples[i - 1] : 0);
    for (int k = 0; k < count; k++) {
        double radius = exp(-PI * 80 / rate), a = 2 * radius * cos(2 * PI * hz[k] / rate), b = -radius * radius;
        double y1 = 0, y2 = 0;
        for (int64_t i = 0; i < audio.count; i++) {
            double y = (1 - a - b) * (double)audio.samples[i] + a * y1 + b * y2;
            audio.samples[i] = (float)y;
            y2 = y1;
            y1 = y;
        }
    }
    return audio;
}

static void formants_are_found(void **state) {
    (void)state;
    static const double VOWELS[][5] = {
        {700, 1220, 2600, 3500, 4500}, {300, 2300, 3000, 3700, 4700}, {350, 800, 2250, 3300, 4200}};
    static const int RATES[] = {11000, 16000, 44100, 48000};
    for (size_t v = 0; v < 3; v++)
        for (size_t r = 0; r < 4; r++) {
            Error err = {0};
            Audio audio = vowel(VOWELS[v], 5, RATES[r]);
            FeatureOptions options = feature_options_default();
            Features features;
            options.voice_quality = true;
            assert_ok(features_measure(&audio, &options, &features, NULL, &err), &err);
            for (size_t k = 0; k < 3; k++)
                if (!(fabs(features.value[FEATURE_F1_HZ + k] / VOWELS[v][k] - 1) < 0.05))
                    fail_msg("vowel %zu at %d Hz: F%zu is %g, not %g", v, RATES[r], k + 1,
                             features.value[FEATURE_F1_HZ + k], VOWELS[v][k]);
            audio_free(&audio);
        }
}

/* --- sounds made to break it --- */

typedef enum Shape { SQUARE, CLICK, NYQUIST, STEPS, NOISE, LOUD, TINY, GAPS, SHAPE_COUNT } Shape;

static float shape_at(Shape shape, int64_t i) {
    float noise = (float)(uniform(5, (uint32_t)i) - 0.5);
    switch (shape) {
    case SQUARE:
        return i / 40 % 2 ? 1 : -1;
    case CLICK:
        return i == 700;
    case NYQUIST:
        return i % 2 ? 1 : -1;
    case STEPS:
        return (float)(i / 500 % 3) - 1;
    case NOISE:
        return noise;
    case LOUD:
        return noise * 1e4f;
    case TINY:
        return noise * 1e-38f;
    default:
        return i / 800 % 2 ? (float)sin(0.08 * (double)i) : 0;
    }
}

static void measure_shape(Shape shape, int64_t count, int rate) {
    Error err = {0};
    Audio audio = audio_new(count, rate);
    FeatureOptions options = feature_options_default();
    Features features;
    FeatureTrack track;
    options.voice_quality = true;
    options.f0_ceiling_hz = rate / 2; /* periods of few samples, too */
    if (options.f0_ceiling_hz > 60 * options.f0_floor_hz) options.f0_ceiling_hz = 60 * options.f0_floor_hz;
    for (int64_t i = 0; i < count; i++) audio.samples[i] = shape_at(shape, i);
    assert_ok(features_measure(&audio, &options, &features, &track, &err), &err);
    for (int i = 0; i < FEATURE_COUNT; i++)
        if (isinf(features.value[i]))
            fail_msg("shape %d, %d samples at %d Hz: %s is infinite", (int)shape, (int)count, rate, FEATURE_NAMES[i]);
    for (int64_t i = 0; i < track.formant_count; i++)
        for (int k = 0; k < 3; k++) assert_true(!isinf(track.formants[i][k]));
    feature_track_free(&track);
    audio_free(&audio);
}

static void any_sound_is_measured(void **state) {
    (void)state;
    static const int64_t COUNTS[] = {0, 1, 2, 3, 100, 213, 214, 426, 427, 550, 639, 801, 3000};
    static const int RATES[] = {1000, 8000, 16000, 48000};
    for (int shape = 0; shape < SHAPE_COUNT; shape++)
        for (size_t c = 0; c < sizeof COUNTS / sizeof *COUNTS; c++)
            for (size_t r = 0; r < sizeof RATES / sizeof *RATES; r++) measure_shape((Shape)shape, COUNTS[c], RATES[r]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roots_are_found),
        cmocka_unit_test(roots_of_odd_polynomials),
        cmocka_unit_test(resampling),
        cmocka_unit_test(places_on_samples),
        cmocka_unit_test(resampling_of_little),
        cmocka_unit_test(jitter_is_measured),
        cmocka_unit_test(too_few_pulses),
        cmocka_unit_test(formants_are_found),
        cmocka_unit_test(any_sound_is_measured),
    };
    return cmocka_run_group_tests_name("voice quality", tests, NULL, NULL);
}
