/* Greedy and beam search against transformers' generate; sampling against its own definition. */
#include "tests/model/many_prompts.h"

enum { PROMPTS = 3, WIDEST = 24 };

typedef struct Asked { /* the fixture's prompts on the device */
    Fixture *f;
    int32_t cu[PROMPTS + 1];
    const int32_t *ids;
    void *rows;
    Prompts prompts;
} Asked;

static Asked ask(const char *variant) {
    Asked a = {.f = fixture_open(variant)};
    Fixture *f = a.f;
    const int32_t *lengths = fixture_ints(f, "prompt_lengths");
    int64_t d = decoder_config(f->decoder)->hidden;
    a.ids = fixture_ints(f, "prompts");
    for (int p = 0; p < PROMPTS; p++) a.cu[p + 1] = a.cu[p] + lengths[p];
    int64_t n = a.cu[PROMPTS];
    assert_ok(a.rows = device_alloc(f->dev, (size_t)(n * d) * sizeof(float), &f->err), &f->err);
    Tensor embeddings = tensor_of(a.rows, device_dtype(f->dev), n, d);
    assert_ok(device_upload(f->dev, f->ids, a.ids, (size_t)n * sizeof *a.ids, &f->err), &f->err);
    assert_ok(decoder_embed(f->decoder, f->ids, embeddings, &f->err), &f->err);
    a.prompts = (Prompts){.embeddings = embeddings, .count = PROMPTS, .ids = a.ids};
    return a;
}

static void answered(Asked *a) {
    device_free(a->f->dev, a->rows);
    fixture_close(a->f);
}

static void run(Asked *a, int slots, const GenerateOptions *options, Generated *results) {
    DecoderSession *session;
    a->prompts.cu = a->cu;
    assert_ok(session = session_open(a->f->decoder, slots, 60, 0, &a->f->err), &a->f->err);
    assert_ok(generate(session, &a->prompts, options, results, &a->f->err), &a->f->err);
    session_close(session);
}

static GenerateOptions options_of(const Fixture *f, int max_new) {
    GenerateOptions options = generate_options_default();
    options.max_new = max_new;
    options.stop = fixture_ints(f, "stops");
    options.stop_count = (int)tensors_find(f->expected, "stops")->shape[0];
    return options;
}

static bool is_stop_id(const GenerateOptions *options, int32_t id) {
    for (int i = 0; i < options->stop_count; i++)
        if (options->stop[i] == id) return true;
    return false;
}

/* transformers' answers end in their stop id, and are filled up with -1 in the fixture. */
static void check_answers(const Fixture *f, const char *name, const GenerateOptions *options,
                          const Generated *results) {
    char key[64];
    snprintf(key, sizeof key, "generate.%s", name);
    const int32_t *expected = fixture_ints(f, key);
    for (int p = 0; p < PROMPTS; p++, expected += WIDEST) {
        int count = 0;
        while (count < WIDEST && expected[count] >= 0) count++;
        bool stopped = is_stop_id(options, expected[count - 1]);
        if (results[p].count != count - stopped || results[p].stopped != stopped)
            fail_msg("%s, %s, prompt %d: %d tokens, expected %d", f->folder, name, p, results[p].count,
                     count - stopped);
        for (int i = 0; i < results[p].count; i++)
            if (results[p].ids[i] != expected[i])
                fail_msg("%s, %s, prompt %d: token %d is %d, expected %d", f->folder, name, p, i, results[p].ids[i],
                         expected[i]);
    }
}

static void test_as_transformers(void **state) {
    (void)state;
    const struct {
        const char *name;
        int max_new, min_new, beams;
        float penalty;
    } cases[] = {{"greedy", 24, 0, 1, 1},   {"penalty", 24, 0, 1, 1.3f},       {"beams", 24, 0, 4, 1},
                 {"min_new", 16, 12, 1, 1}, {"beams_penalty", 24, 0, 3, 1.2f}, {"beams_min_new", 16, 6, 4, 1}};
    for (int v = 0; v < VARIANT_COUNT; v++) {
        Asked a = ask(VARIANTS[v]);
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
            for (int together = 1; together <= PROMPTS; together++) { /* in waves of one, two, all */
                GenerateOptions options = options_of(a.f, cases[c].max_new);
                Generated results[PROMPTS];
                options.min_new = cases[c].min_new;
                options.beams = cases[c].beams;
                options.repetition_penalty = cases[c].penalty;
                run(&a, together * options.beams, &options, results);
                check_answers(a.f, cases[c].name, &options, results);
                generated_free(results, PROMPTS);
            }
        answered(&a);
    }
}

static void test_ranking(void **state) {
    (void)state;
    const int32_t ids[4][4] = {{7}, {11, 12}, {11, 13, 14, 15}, {8, 9, 10}};
    const Candidate candidates[5] = {{ids[0], 1}, {ids[1], 2}, {ids[2], 4}, {ids[3], 3}, {NULL, 0}};
    for (int v = 0; v < VARIANT_COUNT; v++) {
        Asked a = ask(VARIANTS[v]);
        size_t count;
        float *expected = fixture_floats(a.f, "ranking", &count);
        a.prompts.cu = a.cu;
        for (int slots = 1; slots <= 17; slots += 2) {
            DecoderSession *session;
            double scores[PROMPTS * 5];
            assert_ok(session = session_open(a.f->decoder, slots, 50, 20, &a.f->err), &a.f->err);
            assert_ok(rank_candidates(session, &a.prompts, candidates, 5, scores, &a.f->err), &a.f->err);
            for (int p = 0; p < PROMPTS; p++) {
                for (int c = 0; c < 4; c++) assert_true(fabs(scores[p * 5 + c] - (double)expected[p * 4 + c]) < 1e-4);
                assert_true(scores[p * 5 + 4] == 0);
            }
            session_close(session);
        }
        free(expected);
        answered(&a);
    }
}

/* The likelihood that comes with an answer is that of ranking it. */
static void test_likelihood(void **state) {
    (void)state;
    Asked a = ask("llama3");
    a.prompts.cu = a.cu;
    for (int beams = 1; beams <= 3; beams += 2) {
        GenerateOptions options = options_of(a.f, 9);
        Generated results[PROMPTS];
        options.beams = beams;
        options.repetition_penalty = 1.2f;
        options.stop_count = 0;
        run(&a, 3, &options, results);
        DecoderSession *session;
        assert_ok(session = session_open(a.f->decoder, 2, 50, 0, &a.f->err), &a.f->err);
        for (int p = 0; p < PROMPTS; p++) {
            Candidate answer = {results[p].ids, results[p].count};
            double scores[PROMPTS];
            assert_int_equal(answer.count, 9);
            assert_ok(rank_candidates(session, &a.prompts, &answer, 1, scores, &a.f->err), &a.f->err);
            assert_true(fabs(scores[p] - results[p].log_likelihood) < 1e-3);
        }
        session_close(session);
        generated_free(results, PROMPTS);
    }
    answered(&a);
}

/* First tokens of many seeds follow softmax(logits / temperature), cut at top_p. */
static void test_sampling_distribution(void **state) {
    (void)state;
    Asked a = ask("qwen3");
    Fixture *f = a.f;
    enum { DRAWS = 4000 };
    const float temperature = 1.7f, top_p = 0.8f;
    DecoderSession *session;
    float logits[VOCAB];
    double probability[VOCAB], sum = 0, above = 0;
    int drawn[VOCAB] = {0}, order[VOCAB];
    int32_t slot = 0;
    assert_ok(session = session_open(f->decoder, 1, 50, 0, &f->err), &f->err);
    assert_ok(session_prefill(session, a.prompts.embeddings, a.cu, &slot, 1, logits, &f->err), &f->err);
    for (int i = 0; i < VOCAB; i++) sum += probability[i] = exp((double)logits[i] / (double)temperature);
    for (int i = 0; i < VOCAB; i++) order[i] = i;
    for (int i = 0; i < VOCAB; i++) /* selection sort, greatest first */
        for (int j = i + 1; j < VOCAB; j++)
            if (logits[order[j]] > logits[order[i]]) {
                int swap = order[i];
                order[i] = order[j];
                order[j] = swap;
            }
    int kept = 0;
    while (above < (double)top_p * sum) above += probability[order[kept++]];
    a.prompts.count = 1;
    a.prompts.cu = a.cu;
    GenerateOptions options = options_of(f, 1);
    options.stop_count = 0;
    options.temperature = temperature;
    options.top_p = top_p;
    for (int i = 0; i < DRAWS; i++) {
        Generated result;
        options.seed = (uint64_t)i;
        assert_ok(generate(session, &a.prompts, &options, &result, &f->err), &f->err);
        drawn[result.ids[0]]++;
        generated_free(&result, 1);
    }
    for (int i = 0; i < VOCAB; i++) {
        double share = i < kept ? probability[order[i]] / above : 0;
        double spread = 5 * sqrt(share * (1 - share) / DRAWS); /* five standard deviations */
        if (fabs((double)drawn[order[i]] / DRAWS - share) > spread)
            fail_msg("id %d: drawn %d times of %d, expected %.1f", order[i], drawn[order[i]], DRAWS, share * DRAWS);
    }
    assert_true(kept > 3 && kept < VOCAB);
    session_close(session);
    answered(&a);
}

/* What is drawn belongs to a sample, not to its place in the batch. */
static void test_sampling_is_keyed(void **state) {
    (void)state;
    Asked a = ask("qwen2");
    GenerateOptions options = options_of(a.f, 10);
    Generated one[PROMPTS], other[PROMPTS];
    int32_t sample[PROMPTS] = {12, 7, 30};
    bool differ = false;
    options.temperature = 1.5f;
    a.prompts.sample = sample;
    run(&a, 3, &options, one);
    run(&a, 1, &options, other);
    for (int p = 0; p < PROMPTS; p++) {
        assert_int_equal(one[p].count, other[p].count);
        assert_memory_equal(one[p].ids, other[p].ids, (size_t)one[p].count * sizeof *one[p].ids);
    }
    generated_free(other, PROMPTS);
    options.seed = 1;
    run(&a, 3, &options, other);
    for (int p = 0; p < PROMPTS; p++)
        differ = differ || one[p].count != other[p].count ||
                 memcmp(one[p].ids, other[p].ids, (size_t)one[p].count * sizeof *one[p].ids) != 0;
    assert_true(differ);
    generated_free(one, PROMPTS);
    generated_free(other, PROMPTS);
    answered(&a);
}

/* ---- more prompts than slots ---- */

/* An answer does not depend on how many others are made beside it or on whose place it takes; its likelihood no more
 * than products of few rows and of many differ. */
static void test_company_changes_nothing(void **state) {
    (void)state;
    const struct {
        float temperature, top_p, penalty;
        int min_new;
    } cases[] = {{1.5f, 1, 1, 0}, {2, 0.9f, 1.2f, 5}, {0, 1, 1, 0}, {0, 1, 1, 12}, {0, 1, 1.3f, 0}};
    Fixture *f = fixture_open("qwen3");
    ManyPrompts many;
    many_open(&many, f);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        Generated alone[MANY], beside[MANY];
        GenerateOptions options = many_options();
        options.temperature = cases[c].temperature;
        options.top_p = cases[c].top_p;
        options.repetition_penalty = cases[c].penalty;
        options.min_new = cases[c].min_new;
        many_answers(&many, f, 1, &options, alone);
        for (int slots = 5; slots <= 33; slots += 14) {
            many_answers(&many, f, slots, &options, beside);
            many_equal(alone, beside, 1e-4);
            generated_free(beside, MANY);
        }
        generated_free(alone, MANY);
    }
    many_close(&many, f);
    fixture_close(f);
}

/* Steps that each answer takes after its prompt. */
static int steps_of(const Generated *result) { return result->count + result->stopped - 1; }

/* Prompts take the places of those that are answered: fewer steps than by waves, close to as few as there can be; and
 * they enter several at a time. */
static void test_places_are_taken(void **state) {
    (void)state;
    enum { SLOTS = 8 };
    Fixture *f = fixture_open("qwen3");
    ManyPrompts many;
    many_open(&many, f);
    GenerateOptions options = many_options();
    Generated results[MANY];
    SessionUse use = many_answers(&many, f, SLOTS, &options, results);
    int waves = 0, all = 0, longest = 0;
    for (int p = 0; p < MANY; p++) {
        int steps = steps_of(&results[p]);
        all += steps;
        longest = p % SLOTS && longest > steps ? longest : steps;
        if (p % SLOTS == SLOTS - 1 || p == MANY - 1) waves += longest;
    }
    print_message("%d steps by waves, %d taken, %d at least\n", waves, (int)use.steps, (all + SLOTS - 1) / SLOTS);
    assert_true(use.steps >= (all + SLOTS - 1) / SLOTS);
    assert_true((double)use.steps < 0.75 * waves);
    assert_true(use.prefills <= 1 + (MANY - SLOTS + 1) / 2);
    generated_free(results, MANY);
    many_close(&many, f);
    fixture_close(f);
}

static void test_refusals(void **state) {
    (void)state;
    Asked a = ask("llama3");
    DecoderSession *session;
    Generated results[PROMPTS];
    const int32_t far = VOCAB;
    const GenerateOptions wrong[] = {
        {.max_new = 0, .beams = 1, .top_p = 1, .repetition_penalty = 1},
        {.max_new = 5, .beams = 0, .top_p = 1, .repetition_penalty = 1},
        {.max_new = 5, .beams = 3, .top_p = 1, .repetition_penalty = 1}, /* more than slots */
        {.max_new = 5, .beams = 2, .top_p = 1, .repetition_penalty = 1, .temperature = 1},
        {.max_new = 5, .beams = 1, .top_p = 0, .repetition_penalty = 1},
        {.max_new = 5, .beams = 1, .top_p = 1, .repetition_penalty = 0},
        {.max_new = 5, .beams = 1, .top_p = NAN, .repetition_penalty = 1},
        {.max_new = 5, .beams = 1, .top_p = 1, .repetition_penalty = 1, .temperature = -1},
        {.max_new = 5, .beams = 1, .top_p = 1, .repetition_penalty = 1, .stop = &far, .stop_count = 1},
        {.max_new = 50, .beams = 1, .top_p = 1, .repetition_penalty = 1}, /* more than the cache holds */
    };
    a.prompts.cu = a.cu;
    assert_ok(session = session_open(a.f->decoder, 2, 30, 0, &a.f->err), &a.f->err);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Error err = {0};
        assert_false(generate(session, &a.prompts, &wrong[i], results, &err));
        assert_true(err.exit_code != EXIT_DONE && err.text[0]);
    }
    Error err = {0};
    Candidate candidate = {&far, 1};
    double scores[PROMPTS];
    assert_false(rank_candidates(session, &a.prompts, &candidate, 1, scores, &err));
    session_close(session);
    answered(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_transformers),
        cmocka_unit_test(test_ranking),
        cmocka_unit_test(test_likelihood),
        cmocka_unit_test(test_sampling_distribution),
        cmocka_unit_test(test_sampling_is_keyed),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_company_changes_nothing),
        cmocka_unit_test(test_places_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
