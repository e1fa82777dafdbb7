/* The speech front end's convolutions, and the gate of WavLM's relative position bias. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/rows.h"

enum { WEIGHT_MAX = 32768, FRAMES = 48 };

/* Where the weight, transposed, stays in the cache: WavLM's. */
static bool is_direct(const ConvArgs *a) {
    int64_t width = round_up(a->y.cols, VEC);
    return a->kernel * width <= WEIGHT_MAX && (a->kernel + FRAMES) * width <= TILE_FLOATS;
}

/* The rows of segment s that are made of whole windows. */
static int64_t windows_of(const ConvArgs *a, int32_t s) {
    int64_t length = a->in_segments.host[s + 1] - a->in_segments.host[s];
    return length < a->kernel ? 0 : (length - a->kernel) / a->stride + 1;
}

static void convolve_frames(const ConvArgs *a, const float *weight, float *room, int64_t in, int64_t out,
                            int64_t rows) {
    int64_t width = round_up(a->y.cols, VEC), cols = a->y.cols;
    bool in_place = width == cols; /* whole vectors can be written where the result belongs */
    float *c = in_place ? row_of(a->y, out) : room;
    int64_t ldc = in_place ? a->y.ld : width;
    tile_product(&(TileProduct){.m = (int)rows,
                                .n = (int)cols,
                                .k = a->kernel,
                                .a = row_of(a->x, in),
                                .a_row = a->stride * a->x.ld,
                                .a_col = a->x.ld,
                                .b = weight,
                                .ldb = width,
                                .c = c,
                                .ldc = ldc});
    for (int64_t r = 0; r < rows; r++) {
        if (tensor_present(a->bias)) row_add(c + r * ldc, 1.0f, floats(a->bias), cols);
        row_activate(row_of(a->y, out + r), c + r * ldc, cols, a->act);
    }
}

static void convolve_directly(Device *dev, const ConvArgs *a) {
    int64_t chunks = (a->out_segments.longest + FRAMES - 1) / FRAMES, width = round_up(a->y.cols, VEC);
#pragma omp parallel if (a->y.rows * a->y.cols > PARALLEL_FROM)
    {
        float *weight = cpu_tile(dev), *room = weight + a->kernel * width;
        tile_transpose(weight, width, floats(a->weight), a->weight.ld, (int)a->y.cols, a->kernel, (int)width);
#pragma omp for collapse(2) schedule(static)
        for (int32_t s = 0; s < a->out_segments.count; s++)
            for (int64_t chunk = 0; chunk < chunks; chunk++) {
                int64_t first = chunk * FRAMES, end = windows_of(a, s);
                int64_t in = a->in_segments.host[s] + first * a->stride, out = a->out_segments.host[s] + first;
                if (first < end) convolve_frames(a, weight, room, in, out, least(FRAMES, end - first));
            }
    }
}

/* y's segment as a sum of products: windows overlap, so that each product takes as many taps as lie side by side
 * in both the windows `stride` apart and the weight's rows. */
static bool convolve_segment(const ConvArgs *a, int32_t s, Error *err) {
    int64_t in = a->in_segments.host[s], out = a->out_segments.host[s], rows = windows_of(a, s);
    int together = a->x.ld == 1 ? a->stride : 1;
    for (int tap = 0; rows && tap < a->kernel; tap += together) {
        Gemm g = {.transpose_b = true,
                  .m = rows,
                  .n = a->y.cols,
                  .k = a->kernel - tap < together ? a->kernel - tap : together,
                  .alpha = 1.0f,
                  .beta = tap ? 1.0f : 0.0f,
                  .a = row_of(a->x, in + tap),
                  .lda = a->stride * a->x.ld,
                  .b = floats(a->weight) + tap,
                  .ldb = a->weight.ld,
                  .c = row_of(a->y, out),
                  .ldc = a->y.ld};
        if (!gemm(&g, err)) return fail_in(err, "conv");
    }
#pragma omp parallel for schedule(static) if (rows * a->y.cols > PARALLEL_FROM)
    for (int64_t r = 0; r < rows; r++)
        rows_finish(row_of(a->y, out + r), a->y.ld, 1, a->y.cols, floats(a->bias), a->act);
    return true;
}

/* The rows past the last whole window. */
static void fill_past_windows(const ConvArgs *a) {
    for (int32_t s = 0; s < a->out_segments.count; s++)
        for (int64_t r = a->out_segments.host[s] + windows_of(a, s); r < a->out_segments.host[s + 1]; r++) {
            memset(row_of(a->y, r), 0, (size_t)a->y.cols * sizeof(float));
            rows_finish(row_of(a->y, r), a->y.ld, 1, a->y.cols, floats(a->bias), a->act);
        }
}

static bool convolve(Device *dev, const ConvArgs *a, Error *err) {
    bool direct = is_direct(a);
    if (direct) convolve_directly(dev, a);
    for (int32_t s = 0; !direct && s < a->out_segments.count; s++)
        if (!convolve_segment(a, s, err)) return false;
    fill_past_windows(a);
    return true;
}

bool cpu_conv(Device *dev, const ConvArgs *a, Error *err) {
    if (!tensor_present(a->gamma)) return convolve(dev, a, err);
    ConvArgs raw = *a;
    raw.act = ACT_NONE;
    const LayerNormArgs norm = {.x = a->y, .gamma = a->gamma, .beta = a->beta, .eps = a->eps, .act = a->act, .y = a->y};
    return convolve(dev, &raw, err) && cpu_layer_norm(dev, &norm, err);
}

/* The positional convolution of one group over `rows` frames: the frames lie transposed, channels as
 * rows, so that a tap is a shift of them and every tap one small product with the weight as it is. */
typedef struct PosBlock {
    const PosConvArgs *a;
    int64_t first, end; /* of the segment */
    int64_t at, rows;   /* the frames to be made */
    int group;
    float *tile;
} PosBlock;

static int64_t pos_span(const PosConvArgs *a, int64_t rows) { return round_up(rows, VEC) + a->kernel - 1; }

static void pos_load(const PosBlock *b, float *wide, int64_t span) {
    const PosConvArgs *a = b->a;
    int64_t w = a->x.cols / a->groups, left = b->at - a->kernel / 2;
    for (int64_t t = 0; t < span; t++) {
        int64_t from = left + t;
        bool inside = from >= b->first && from < b->end;
        const float *x = row_of(a->x, inside ? from : b->first) + b->group * w;
        for (int64_t c = 0; c < w; c++) wide[c * span + t] = inside ? x[c] : 0.0f;
    }
}

static void pos_block(const PosBlock *b) {
    const PosConvArgs *a = b->a;
    int64_t w = a->x.cols / a->groups, width = round_up(b->rows, VEC), span = pos_span(a, b->rows);
    float *sum = b->tile, *row = sum + w * width, *wide = row + round_up(w, VEC);
    pos_load(b, wide, span);
    tile_product(&(TileProduct){.m = (int)w,
                                .n = (int)width,
                                .k = (int)w,
                                .a = row_of(a->weight, b->group * w),
                                .a_row = a->weight.ld,
                                .a_col = 1,
                                .b = wide,
                                .ldb = span,
                                .c = sum,
                                .ldc = width,
                                .taps = a->kernel,
                                .a_tap = w,
                                .b_tap = 1});
    for (int64_t t = 0; t < b->rows; t++) {
        const float *x = row_of(a->x, b->at + t) + b->group * w, *bias = floats(a->bias) + b->group * w;
        float *y = row_of(a->y, b->at + t) + b->group * w;
        for (int64_t c = 0; c < w; c++) row[c] = sum[c * width + t];
#pragma omp simd
        for (int64_t c = 0; c < w; c++) y[c] = x[c] + vec_gelu(row[c] + bias[c]);
    }
}

bool cpu_pos_conv(Device *dev, const PosConvArgs *a, Error *err) {
    int64_t w = a->x.cols / a->groups;
    int64_t room = (TILE_FLOATS - round_up(w, VEC) - w * a->kernel) / (2 * w) - VEC; /* frames that fit a tile */
    int64_t block = room >= 256 ? 256 : room / VEC * VEC;
    if (block < VEC)
        return fail(err, "pos_conv: a kernel of %d over groups of %lld channels is too large for the CPU device",
                    a->kernel, (long long)w);
    int64_t blocks = (a->segments.longest + block - 1) / block;
#pragma omp parallel for collapse(3) schedule(dynamic) if (a->x.rows * a->x.cols > PARALLEL_FROM / 64)
    for (int32_t s = 0; s < a->segments.count; s++)
        for (int64_t i = 0; i < blocks; i++)
            for (int g = 0; g < a->groups; g++) {
                int64_t first = a->segments.host[s], end = a->segments.host[s + 1], at = first + i * block;
                if (at < end)
                    pos_block(&(PosBlock){.a = a,
                                          .first = first,
                                          .end = end,
                                          .at = at,
                                          .rows = least(block, end - at),
                                          .group = g,
                                          .tile = cpu_tile(dev)});
            }
    return true;
}

bool cpu_rel_gate(Device *dev, const RelGateArgs *a, Error *err) {
    (void)dev, (void)err;
    enum { DIM_MAX = 1024 };
    int64_t dim = a->u.cols / a->heads;
    if (dim > DIM_MAX) return fail(err, "rel_gate: heads of %lld are wider than %d", (long long)dim, DIM_MAX);
    float half[2][DIM_MAX], bias[2] = {0.0f, 0.0f}; /* only the sums over four rows matter */
    for (int z = 0; z < 8; z++) {
        const float *from = row_of(a->weight, z);
        bias[z / 4] += floats(a->bias)[z];
        for (int64_t c = 0; c < dim; c++) half[z / 4][c] = (z % 4 ? half[z / 4][c] : 0.0f) + from[c];
    }
#pragma omp parallel for schedule(static) if (a->u.rows * a->u.cols > PARALLEL_FROM)
    for (int64_t r = 0; r < a->u.rows; r++) {
        float *gate = row_of(a->gate, r);
        for (int h = 0; h < a->heads; h++) {
            const float *slice = row_of(a->u, r) + h * dim;
            float alpha = vec_sigmoid(row_dot(half[0], slice, dim) + bias[0]);
            float beta = vec_sigmoid(row_dot(half[1], slice, dim) + bias[1]);
            gate[h] = alpha * (beta * floats(a->scale)[h] - 1.0f) + 2.0f;
        }
    }
    return true;
}
