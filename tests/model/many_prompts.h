/* More prompts than a session has slots, with answers of very different lengths. */
#ifndef SEMOLLM_TESTS_MODEL_MANY_PROMPTS_H
#define SEMOLLM_TESTS_MODEL_MANY_PROMPTS_H

#include "tests/model/decoder_fixture.h"

enum { MANY = 25, MANY_LENGTH = 3, MANY_NEW = 40 };

/* Prompts of three tokens of the fixture's each. */
typedef struct ManyPrompts {
    int32_t cu[MANY + 1];
    void *rows;
    Prompts prompts;
} ManyPrompts;

static inline void many_open(ManyPrompts *m, Fixture *f) {
    const int32_t *ids = fixture_ints(f, "ids");
    int64_t n = MANY * MANY_LENGTH, d = decoder_config(f->decoder)->hidden;
    DType dtype = device_dtype(f->dev);
    for (int p = 0; p <= MANY; p++) m->cu[p] = MANY_LENGTH * p;
    assert_ok(m->rows = device_alloc(f->dev, (size_t)(n * d) * dtype_size(dtype), &f->err), &f->err);
    Tensor embeddings = tensor_of(m->rows, dtype, n, d);
    assert_ok(device_upload(f->dev, f->ids, ids, (size_t)n * sizeof *ids, &f->err), &f->err);
    assert_ok(decoder_embed(f->decoder, f->ids, embeddings, &f->err), &f->err);
    m->prompts = (Prompts){.embeddings = embeddings, .count = MANY, .cu = m->cu, .ids = ids};
}

static inline void many_close(ManyPrompts *m, Fixture *f) { device_free(f->dev, m->rows); }

/* Sampled, so that some of the 96 ids that it may draw end an answer early and others late. */
static inline GenerateOptions many_options(void) {
    static const int32_t stops[] = {3, 17, 40, 77};
    GenerateOptions options = generate_options_default();
    options.max_new = MANY_NEW;
    options.temperature = 1.5f;
    options.seed = 5;
    options.stop = stops;
    options.stop_count = sizeof stops / sizeof *stops;
    return options;
}

static inline SessionUse many_answers(const ManyPrompts *m, Fixture *f, int slots, const GenerateOptions *options,
                                      Generated *results) {
    DecoderSession *session;
    assert_ok(session = session_open(f->decoder, slots, MANY_LENGTH + MANY_NEW, 0, &f->err), &f->err);
    assert_ok(generate(session, &m->prompts, options, results, &f->err), &f->err);
    SessionUse use = session_use(session);
    session_close(session);
    return use;
}

/* `apart`: how far the likelihoods may be. */
static inline void many_equal(const Generated *a, const Generated *b, double apart) {
    for (int p = 0; p < MANY; p++) {
        if (a[p].count != b[p].count || a[p].stopped != b[p].stopped ||
            memcmp(a[p].ids, b[p].ids, (size_t)a[p].count * sizeof *a[p].ids) != 0)
            fail_msg("the answers to prompt %d differ: %d and %d tokens", p, a[p].count, b[p].count);
        if (!(fabs(a[p].log_likelihood - b[p].log_likelihood) <= apart))
            fail_msg("prompt %d: log-likelihoods %.9g and %.9g", p, a[p].log_likelihood, b[p].log_likelihood);
    }
}

#endif
