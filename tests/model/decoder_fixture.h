/* The small decoders of tests/fixtures/decoder and what transformers and PEFT compute with them. */
#ifndef SEMOLLM_TESTS_MODEL_DECODER_FIXTURE_H
#define SEMOLLM_TESTS_MODEL_DECODER_FIXTURE_H

#include "tests/test.h" /* first: cmocka hides our fail() */

#include <math.h>

#include "model/decoder.h"
#include "model/safetensors.h"

static const char *const VARIANTS[] = {"llama3", "llama_old", "qwen2", "qwen3"};
enum { VARIANT_COUNT = 4, SEQUENCES = 4, TOKENS = 77, VOCAB = 96 };
static const int32_t CU[SEQUENCES + 1] = {0, 1, 8, 37, 77}; /* the sequences of every fixture */

typedef struct Fixture {
    char folder[120], adapter[140];
    Device *dev;
    Decoder *decoder;
    TensorFiles *expected;
    Params params;
    void *memory, *ids; /* activations, and TOKENS ids on the device */
    Error err;
} Fixture;

static inline Fixture *fixture_open(const char *variant) {
    Fixture *f = calloc(1, sizeof *f);
    char path[160];
    assert_non_null(f);
    snprintf(f->folder, sizeof f->folder, "tests/fixtures/decoder/%s", variant);
    snprintf(f->adapter, sizeof f->adapter, "%s/adapter", f->folder);
    snprintf(path, sizeof path, "%s/expected.safetensors", f->folder);
    assert_ok(f->expected = tensors_open(path, &f->err), &f->err);
    assert_ok(f->dev = device_open(DEVICE_CPU, 2, &f->err), &f->err);
    assert_ok(f->decoder = decoder_open(f->dev, f->folder, &f->err), &f->err);
    assert_ok(f->ids = device_alloc(f->dev, TOKENS * sizeof(int32_t), &f->err), &f->err);
    return f;
}

static inline void fixture_close(Fixture *f) {
    decoder_close(f->decoder);
    params_free(&f->params);
    device_free(f->dev, f->memory);
    device_free(f->dev, f->ids);
    device_close(f->dev);
    tensors_close(f->expected);
    free(f);
}

/* The adapter that PEFT made. */
static inline void fixture_adapter(Fixture *f) {
    assert_ok(decoder_lora_declare_from(f->decoder, f->adapter, 7, &f->params, &f->err), &f->err);
    assert_ok(params_commit(&f->params, f->dev, &f->err), &f->err);
    assert_ok(decoder_lora_load(f->decoder, f->adapter, &f->err), &f->err);
}

static inline void fixture_layout(Fixture *f, const DecoderLimits *limits) {
    Arena arena = {.name = "activations"};
    assert_ok(decoder_layout(f->decoder, &arena, limits, &f->err), &f->err);
    assert_ok(arena_check(&arena, &f->err), &f->err);
    arena.size = arena.used;
    device_free(f->dev, f->memory);
    assert_ok(arena.base = f->memory = device_alloc(f->dev, arena.used, &f->err), &f->err);
    arena_reset(&arena);
    assert_ok(decoder_layout(f->decoder, &arena, limits, &f->err), &f->err);
    arena_free(&arena);
}

static inline const int32_t *fixture_ints(const Fixture *f, const char *name) {
    const StoredTensor *tensor = tensors_find(f->expected, name);
    assert_non_null(tensor);
    assert_int_equal(tensor->dtype, DTYPE_I32);
    return tensor->data;
}

/* An expected tensor's floats; free them. */
static inline float *fixture_floats(const Fixture *f, const char *name, size_t *count) {
    const StoredTensor *tensor = tensors_find(f->expected, name);
    if (!tensor) fail_msg("the fixture lacks %s", name);
    *count = tensor->bytes / dtype_size(tensor->dtype);
    float *values = calloc(*count, sizeof *values);
    assert_non_null(values);
    floats_from(tensor->dtype, tensor->data, values, *count);
    return values;
}

/* |a - b| / |b| */
static inline double distance(const float *a, const float *b, size_t count) {
    double apart = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        apart += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    return size > 0 ? sqrt(apart / size) : sqrt(apart);
}

static inline void assert_close(const float *a, const float *b, size_t count, double limit, const char *what) {
    double apart = distance(a, b, count);
    if (!(apart <= limit)) fail_msg("%s: relative error %.3g, at most %.1g allowed", what, apart, limit);
}

/* Runs the embeddings of packed ids (host) through the decoder; logits are wanted of `rows`. */
static inline void fixture_forward(Fixture *f, const int32_t *ids, const DecoderBatch *batch) {
    int32_t n = batch->cu[batch->count];
    assert_ok(device_upload(f->dev, f->ids, ids, (size_t)n * sizeof *ids, &f->err), &f->err);
    assert_ok(decoder_embed(f->decoder, f->ids, decoder_input(f->decoder, n), &f->err), &f->err);
    assert_ok(decoder_forward(f->decoder, batch, &f->err), &f->err);
}

/* The rows that predict tokens bearing loss, and those tokens. */
static inline int64_t fixture_responses(const Fixture *f, int32_t *rows, int32_t *targets) {
    const int32_t *ids = fixture_ints(f, "ids"), *mask = fixture_ints(f, "mask");
    int64_t count = 0;
    for (int32_t t = 1; t < TOKENS; t++)
        if (mask[t]) {
            rows[count] = t - 1;
            targets[count++] = ids[t];
        }
    return count;
}

#endif
