/* decoder_step LLM_DIR [THREADS [STEPS [DROPOUT]]]: times LoRA steps (rank 16 on all projections) over 1302
 * tokens in 8 sequences, the last 60 tokens of each bearing loss, and reports peak memory. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/base.h"
#include "model/decoder.h"

enum { COUNT = 8, EACH = 60, N = 1302 };
static const int32_t CU[COUNT + 1] = {0, 75, 170, 290, 440, 620, 830, 1060, N};

typedef struct Bench {
    Device *dev;
    Decoder *decoder;
    Params params;
    Arena arena;
    int32_t ids[N], rows[COUNT * EACH], targets[COUNT * EACH], sample[COUNT];
    void *table;
} Bench;

static bool lay_out(Bench *b, Error *err) {
    DecoderLimits limits = {.tokens = N, .segments = COUNT, .responses = COUNT * EACH, .training = true};
    if (!decoder_layout(b->decoder, &b->arena, &limits, err) || !arena_check(&b->arena, err)) return false;
    b->arena.size = b->arena.used;
    b->arena.base = device_alloc(b->dev, b->arena.used, err);
    arena_reset(&b->arena);
    return b->arena.base && decoder_layout(b->decoder, &b->arena, &limits, err);
}

static bool open_all(Bench *b, const char *folder, int threads, float dropout, Error *err) {
    LoraConfig lora = {.rank = 16, .alpha = 32, .dropout = dropout, .targets = LORA_ALL};
    b->arena.name = "activations";
    b->dev = device_open(DEVICE_CPU, threads, err);
    b->decoder = b->dev ? decoder_open(b->dev, folder, err) : NULL;
    return b->decoder && decoder_lora_declare(b->decoder, &lora, 1, &b->params, err) &&
           params_commit(&b->params, b->dev, err) && decoder_lora_init(b->decoder, err) && lay_out(b, err) &&
           (b->table = device_alloc(b->dev, sizeof b->ids, err));
}

static void fill(Bench *b) {
    Rng rng = rng_stream(1, 0, 0, 0);
    for (int i = 0; i < N; i++) b->ids[i] = (int32_t)rng_below(&rng, (uint32_t)decoder_config(b->decoder)->vocab);
    for (int s = 0; s < COUNT; s++) {
        b->sample[s] = s;
        for (int i = 0; i < EACH; i++) {
            b->rows[s * EACH + i] = CU[s + 1] - 1 - EACH + i;
            b->targets[s * EACH + i] = b->ids[CU[s + 1] - EACH + i];
        }
    }
}

static bool step(Bench *b, double *times, double *loss, Error *err) {
    float losses[COUNT * EACH];
    DecoderBatch batch = {.count = COUNT, .cu = CU, .sample = b->sample, .responses = COUNT * EACH, .rows = b->rows};
    double start = clock_seconds();
    if (!device_upload(b->dev, b->table, b->ids, sizeof b->ids, err) ||
        !decoder_embed(b->decoder, b->table, decoder_input(b->decoder, N), err) ||
        !decoder_forward(b->decoder, &batch, err))
        return false;
    times[0] = clock_seconds() - start;
    if (!decoder_loss(b->decoder, b->targets, true, 1.0f / (COUNT * EACH), losses, err)) return false;
    times[1] = clock_seconds() - start - times[0];
    if (!decoder_backward(b->decoder, NULL, err)) return false;
    times[2] = clock_seconds() - start - times[0] - times[1];
    *loss = 0;
    for (int i = 0; i < COUNT * EACH; i++) *loss += (double)losses[i] / (COUNT * EACH);
    return true;
}

int main(int argc, char **argv) {
    static Bench bench;
    Error err = {0};
    int threads = argc > 2 ? atoi(argv[2]) : 0, steps = argc > 3 ? atoi(argv[3]) : 3;
    bool ok = argc > 1 && open_all(&bench, argv[1], threads, argc > 4 ? strtof(argv[4], NULL) : 0, &err);
    if (ok) fill(&bench);
    for (int i = 0; ok && i < steps; i++) {
        double times[3] = {0}, loss = 0;
        ok = step(&bench, times, &loss, &err);
        printf("forward %.2f s, loss %.2f s, backward %.2f s, together %.2f s (loss %.4f)\n", times[0], times[1],
               times[2], times[0] + times[1] + times[2], loss);
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("activations %.2f GiB, peak memory %.2f GiB\n", (double)bench.arena.size / 0x1p30,
           (double)usage.ru_maxrss / 0x1p20);
    if (!ok) fprintf(stderr, "%s\n", argc > 1 ? err.text : "usage: decoder_step LLM_DIR [THREADS [STEPS [DROPOUT]]]");
    decoder_close(bench.decoder);
    params_free(&bench.params);
    device_free(bench.dev, bench.arena.base);
    device_free(bench.dev, bench.table);
    device_close(bench.dev);
    arena_free(&bench.arena);
    return ok ? EXIT_DONE : EXIT_FAILED;
}
