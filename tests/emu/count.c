/* What each operation's kernels do, counted by the emulator's checking build at the shapes of WavLM large and
 * Qwen2.5 7B (those of tests/gpu/roofline.c, whose list of operations this runs), on fewer clips of mixed lengths.
 *
 *     count [FORMER]     prints the table; with a former one, exits 1 where an operation got worse
 *
 * Scaled so that it takes a minute: the first clips that have 1000 tokens together instead of 16384; a vocabulary of
 * 19008 instead of 152064; 65536 numbers to train instead of 60 million. Widths, heads and head dimensions are the
 * real ones. */
#include "tests/emu/check.h"
#include "tests/emu/cuda_runtime.h"
#include "tests/gpu/bench.h"

enum { KERNELS = 256, OPERATIONS = 128 };

/* The call that is being counted. */
static const void *counted_args;
static BenchCall *counted_call;

static bool count_once(Device *dev, BenchCall *call, const void *args, double least, double *seconds, Error *err) {
    (void)least;
    *seconds = 1;
    counted_args = args;
    counted_call = call;
    emu_count(true);
    return call(dev, args, err) && device_wait(dev, err);
}

#define COUNTED
#define bench_seconds count_once
#include "tests/gpu/roofline.c"

/* ---- mma needed: 16×8×16 products of sub-tiles that hold an unmasked pair ---- */

static int64_t tiles(int64_t n, int64_t of) { return (n + of - 1) / of; }

/* Of scores (16 queries by 8 keys) where `pairs`, else of products with values (16 queries, 16 keys). */
static double attention_tiles(const AttentionArgs *a, int keys) {
    double count = 0;
    for (int32_t s = 0; s < a->queries.count; s++) {
        int64_t nq = a->queries.host[s + 1] - a->queries.host[s], nk = a->keys.host[s + 1] - a->keys.host[s];
        for (int64_t first = 0; first < nq; first += 16) {
            int64_t last = first + 16 < nq ? first + 16 : nq, seen = a->causal ? nk - nq + last : nk;
            count += (double)tiles(seen > 0 ? seen : 0, keys);
        }
    }
    return count * a->heads;
}

static double attention_needed(const AttentionArgs *a, int scores, int values) {
    return scores * attention_tiles(a, 8) * (double)tiles(a->dim, 16) +
           values * attention_tiles(a, 16) * (double)tiles(a->dim, 8);
}

static double rows_in_tiles(Packed p) {
    double count = 0;
    for (int32_t s = 0; s < p.count; s++) count += (double)tiles(p.host[s + 1] - p.host[s], 16);
    return count;
}

static double mma_needed(void) {
    if (counted_call == call_attention) return attention_needed(counted_args, 1, 1);
    if (counted_call == call_attention_backward)
        return attention_needed(&((const AttentionBackwardArgs *)counted_args)->forward, 2, 3);
    if (counted_call == call_conv) {
        const ConvArgs *a = counted_args;
        return rows_in_tiles(a->out_segments) * (double)(tiles(a->y.cols, 8) * tiles(a->kernel, 16));
    }
    if (counted_call == call_pos_conv) {
        const PosConvArgs *a = counted_args;
        int64_t width = a->x.cols / a->groups;
        return rows_in_tiles(a->segments) * (double)(a->groups * tiles(width, 8) * tiles(a->kernel * width, 16));
    }
    return 0;
}

/* ---- the table ---- */

typedef struct Row {
    char label[64];
    double launches, moved, used, request, ways, matrix, mma; /* -1: none */
} Row;

static Row rows[OPERATIONS];
static int row_count;
static struct {
    EmuCounts counts;
    char label[64];
} kernels[KERNELS];
static int kernel_count;

static double ratio(double a, double b) { return b > 0 ? a / b : -1; }

static void add_traffic(EmuTraffic *sum, const EmuTraffic *t) {
    sum->requests += t->requests, sum->requested += t->requested;
    sum->moved += t->moved, sum->used += t->used;
}

static void report(const Bench *b, const char *label, const char *kind, OpCost cost, double seconds) {
    (void)b, (void)kind, (void)seconds;
    static EmuCounts counts[64];
    int count = emu_counts(counts, 64);
    EmuCounts sum = {0};
    EmuTraffic all = {0};
    for (int i = 0; i < count; i++) {
        const EmuCounts *c = &counts[i];
        add_traffic(&all, &c->read), add_traffic(&all, &c->write);
        sum.launches += c->launches, sum.mma += c->mma;
        sum.wavefronts += c->wavefronts, sum.least_wavefronts += c->least_wavefronts;
        sum.matrix_wavefronts += c->matrix_wavefronts, sum.least_matrix_wavefronts += c->least_matrix_wavefronts;
        if (kernel_count == KERNELS) continue;
        kernels[kernel_count].counts = *c;
        snprintf(kernels[kernel_count++].label, sizeof rows->label, "%s", label);
    }
    if (row_count == OPERATIONS) return;
    Row *r = &rows[row_count++];
    *r = (Row){.launches = (double)sum.launches,
               .moved = ratio(32.0 * (double)all.moved, cost.bytes),
               .used = ratio((double)all.used, 32.0 * (double)all.moved),
               .request = ratio((double)all.requested, (double)all.requests),
               .ways = ratio((double)sum.wavefronts, (double)sum.least_wavefronts),
               .matrix = ratio((double)sum.matrix_wavefronts, (double)sum.least_matrix_wavefronts),
               .mma = sum.mma ? ratio((double)sum.mma, mma_needed()) : -1};
    snprintf(r->label, sizeof r->label, "%s", label);
    fprintf(stderr, "  %s\n", label);
}

static void cell(double value) {
    if (value < 0)
        printf(" |");
    else
        printf(" %.3f |", value);
}

static void print_table(void) {
    printf("# What the kernels do, counted\n\n"
           "By `make emu-count` (tests/emu/count.c) on the emulator, at the shapes of WavLM large and Qwen2.5 7B on "
           "fewer\n"
           "clips. Products by cuBLASLt are not counted, nor their bytes. Bytes moved are sectors of 32 bytes behind a "
           "cache\n"
           "of 1 MiB that is empty before each launch. Shared ways are wavefronts over the least there can be.\n\n");
    printf("| operation | launches | bytes moved over compulsory | of each sector used | sectors a request | shared "
           "ways | of these ldmatrix | mma over needed |\n|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < row_count; i++) {
        const Row *r = &rows[i];
        printf("| %s | %.0f |", r->label, r->launches);
        cell(r->moved), cell(r->used), cell(r->request), cell(r->ways), cell(r->matrix), cell(r->mma);
        printf("\n");
    }
    printf(
        "\n| kernel | operation | launches | blocks | threads | shared bytes | sectors read | written | mma | special "
        "| barriers |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < kernel_count; i++) {
        const EmuCounts *c = &kernels[i].counts;
        printf("| `%s` | %s | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %" PRIu64
               " | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " |\n",
               c->name, kernels[i].label, c->launches, c->blocks, c->blocks ? c->threads / c->blocks : 0,
               c->most_shared, c->read.requested, c->write.requested, c->mma, c->special, c->barriers);
    }
}

/* ---- beside a former table ---- */

static double number(char **at) {
    char *bar = strchr(*at, '|'), *end;
    if (!bar) return -1;
    double value = strtod(*at, &end);
    bool blank = end == *at;
    *at = bar + 1;
    return blank ? -1 : value;
}

static bool worse(const char *label, const char *what, double now, double before) {
    if (now < 0 || before < 0 || now <= before * 1.01 + 0.002) return false;
    fprintf(stderr, "%s: %s %.3f, %.3f before\n", label, what, now, before);
    return true;
}

static bool got_worse(const char *path) {
    char line[512];
    bool bad = false;
    FILE *f = fopen(path, "r");
    if (!f) {
        fprintf(stderr, "%s: cannot be read\n", path);
        return true;
    }
    while (fgets(line, sizeof line, f)) {
        for (int i = 0; i < row_count; i++) {
            const Row *r = &rows[i];
            size_t length = strlen(r->label);
            if (strncmp(line, "| ", 2) || strncmp(line + 2, r->label, length) || strncmp(line + 2 + length, " |", 2))
                continue;
            char *at = line + length + 4;
            bad |= worse(r->label, "launches", r->launches, number(&at));
            bad |= worse(r->label, "bytes moved over compulsory", r->moved, number(&at));
            bad |= worse(r->label, "of a sector unused", 1 - r->used, 1 - number(&at));
            bad |= worse(r->label, "sectors a request", r->request, number(&at));
            bad |= worse(r->label, "shared ways", r->ways, number(&at));
            bad |= worse(r->label, "ldmatrix ways", r->matrix, number(&at));
            bad |= worse(r->label, "mma over needed", r->mma, number(&at));
        }
    }
    fclose(f);
    return bad;
}

int main(int argc, char **argv) {
    Error err = {0};
    setenv("EMU_RACES", "0", 0);
    device_calm_idle_threads(argv);
    Device *dev = bench_device("cuda", &err);
    if (!dev) {
        fprintf(stderr, "count: %s\n", err.text);
        return 1;
    }
    Bench b = {.dev = dev, .err = &err};
    b.s = (Sizes){.width = 3584,
                  .ffn = 18944,
                  .vocab = 19008,
                  .heads = 28,
                  .kv_heads = 4,
                  .dim = 128,
                  .encoder = 1024,
                  .encoder_ffn = 4096,
                  .channels = 512,
                  .encoder_heads = 16};
    make_tables(&b, 1000);
    int kept = b.memories;
    void (*const parts[])(Bench *) = {llm_norms,     llm_mlp, llm_attention, llm_loss, encoder_convolutions,
                                      encoder_layer, adapter};
    linear(&b, "qkv", b.s.width, (int64_t)(b.s.heads + 2 * b.s.kv_heads) * b.s.dim);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        parts[i](&b);
        forget(&b, kept);
    }
    b.s.width = 128; /* which makes for few parameters to train */
    optimizer(&b);
    forget(&b, 0);
    device_close(dev);
    print_table();
    return argc > 1 && got_worse(argv[1]);
}
