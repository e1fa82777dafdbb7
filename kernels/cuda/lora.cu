/* LoRA's skinny products by hand: each reads its large operand once, whatever it computes of it.
 *
 * Where inner rows alone are wanted of x, and not of few rows, lora_rows.cu sums them. Else a block takes a strip of
 * columns of the large operand, which its eight warps share, and walks down a group of rows, 16 at a time. Of the small
 * operands a warp keeps what its columns meet in registers: A or sB as fragments of the inner rows' product, and the
 * sums of the gradients. The inner rows of a strip are summed over the warps in shared memory, then over strips by a
 * second kernel; gradients over groups of rows by a third.
 *
 * All sums have a fixed order. Where a size is odd (no multiple of 8), and in fp32, lora_plain.cu does the same without
 * tensor cores. */
#include "kernels/cuda/lora_walk.cuh"
#include "kernels/cuda/swiglu.cuh"

enum { STAGES = 4, TILE_ROWS = 16, TILE_COLS = 64, TILE_BYTES = TILE_ROWS * TILE_COLS * 2 };

/* Of a large GPU (132 on Hopper): rows are grouped so that blocks fill them evenly. */
enum { PROCESSORS = 132, GROUP_LEAST = 128, GROUPS_MOST = 64 };

/* Of so few rows, as in generation, the small operand takes longest: strips of one warp, so that many blocks read it.
 */
enum { FEW_ROWS = 64 };

LoraParts lora_parts(const Lora lora[LINEAR_PARTS], int64_t in) {
    LoraParts parts = {};
    int64_t output = 0;
    for (int i = 0; i < LINEAR_PARTS; i++) {
        LoraPart *p = &parts.part[i];
        p->output = output, p->outputs = lora[i].b.rows, p->first = parts.rank;
        output += p->outputs;
        if (!tensor_present(lora[i].a)) continue;
        p->a = (const float *)lora[i].a.data, p->lda = lora[i].a.ld;
        p->b = (const float *)lora[i].b.data, p->ldb = lora[i].b.ld;
        p->rank = (int)lora[i].a.rows, p->scale = lora[i].scale;
        p->drops = lora[i].dropout.p > 0.0f;
        if (p->drops) p->mask = dropout_mask(&lora[i].dropout, in);
        parts.rank += p->rank;
        parts.drops = parts.drops || p->drops;
    }
    return parts;
}

/* ---- strips ---- */

template <typename T> static __host__ __device__ inline int strip_count(const Walk<T> &k) {
    if (!k.of_dy) return strips_of(k.cols, k.strip);
    int strips = 0;
    for (int i = 0; i < LINEAR_PARTS; i++) strips += part_strips(k, i);
    return strips;
}

template <typename T> static __device__ __forceinline__ Strip strip_at(const Walk<T> &k, int number) {
    if (!k.of_dy) {
        int64_t begin = (int64_t)number * k.strip, end = begin + k.strip;
        return Strip{0, begin, end < k.cols ? end : k.cols, 0, k.lora.rank};
    }
    int i = 0;
    while (i + 1 < LINEAR_PARTS && number >= part_strips(k, i)) number -= part_strips(k, i++);
    const LoraPart &p = k.lora.part[i];
    int64_t begin = p.output + (int64_t)number * k.strip, end = begin + k.strip, past = p.output + p.outputs;
    return Strip{i, begin, end < past ? end : past, p.first, p.rank};
}

/* ---- the walk, on tensor cores ---- */

template <int NT, bool INNER = true> struct Layout { /* of shared memory, in bytes */
    enum {
        LOW_ROW = (NT + 1) * 16,   /* an odd number of 16 bytes: ldmatrix without conflicts */
        SUM_ROW = NT * 8 + 8,      /* floats */
        BUFFERS = NT <= 2 ? 2 : 1, /* of sums: one is read while another is filled, where there is room */
        SUM_FLOATS = WARPS * TILE_ROWS * SUM_ROW,
        LOWS = STAGES * WARPS * TILE_BYTES,
        SUMS = LOWS + STAGES * TILE_ROWS * LOW_ROW,
        MASKED = SUMS + (INNER ? BUFFERS * SUM_FLOATS * 4 : 0),
        ALL = MASKED + WARPS * TILE_BYTES
    };
};

/* Chunk `chunk` of 8 columns in row `row` of a warp's tile; neighbouring rows lie in other banks. */
static __device__ __forceinline__ int tile_at(int row, int chunk) { return row * 128 + ((chunk ^ (row & 7)) << 4); }

static __device__ __forceinline__ void load_tile(const Walk<bf16> &k, char *tile, int64_t row, int64_t last,
                                                 int64_t column, int64_t end, int lane) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int r = (lane + 32 * i) / 8, chunk = lane % 8;
        bool valid = row + r < last && column + 8 * chunk < end;
        copy_async16(tile + tile_at(r, chunk), valid ? k.large + (row + r) * k.ld + column + 8 * chunk : k.large,
                     valid);
    }
}

template <int NT>
static __device__ __forceinline__ void load_low(const Walk<bf16> &k, char *lows, int64_t row, int64_t last, int first,
                                                int rank, int thread) {
    int r = thread / NT, chunk = thread % NT;
    if (r >= TILE_ROWS) return;
    bool valid = row + r < last && 8 * chunk < rank;
    copy_async16(lows + r * Layout<NT>::LOW_ROW + 16 * chunk,
                 valid ? k.low + (row + r) * k.ldlow + first + 8 * chunk : k.low, valid);
}

/* What a lane needs to normalise its columns of tiles one below the other: gamma of these eight, and one row's rstd. */
struct Normal {
    Eight<bf16> gamma;
    float rstd;
};

/* rstd of row lane % 16 of the tile from `row` on: 0 past the last row, whose elements are zeros. */
static __device__ __forceinline__ float rstd_ahead(const Walk<bf16> &k, int64_t row, int64_t last, int lane) {
    row += lane % TILE_ROWS;
    return row < last ? k.rstd[row * k.ldrstd] : 0.0f;
}

static __device__ __forceinline__ Normal normal_at(const Walk<bf16> &k, int64_t row, int64_t last, int64_t column,
                                                   int64_t end, int lane) {
    Normal n;
    int64_t c = column + 8 * (lane % 8);
    take8(n.gamma, k.gamma + c, (int)(end - c), (uintptr_t)k.gamma % 16 == 0);
    n.rstd = rstd_ahead(k, row, last, lane);
    return n;
}

/* The warp's tile as RMSNorm left it, in place. A lane takes what it copied itself, so that none waits for others. */
static __device__ __forceinline__ void norm_tile(const Normal &n, char *tile, int lane) {
    float gamma[8];
    unpack8(gamma, n.gamma);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int r = (lane + 32 * i) / 8, chunk = lane % 8;
        float v[8], rstd = __shfl_sync(0xffffffffu, n.rstd, r);
        load8(v, (const bf16 *)(tile + tile_at(r, chunk)));
#pragma unroll
        for (int c = 0; c < 8; c++) v[c] = v[c] * rstd * gamma[c];
        store8((bf16 *)(tile + tile_at(r, chunk)), v);
    }
}

/* The warp's tile as a part's dropout leaves it. */
static __device__ __forceinline__ void mask_tile(const DropoutMask &mask, char *masked, const char *tile, int64_t row,
                                                 int64_t last, int64_t column, int lane) {
    __syncwarp(); /* the last one has been read */
    for (int i = 0; i < 4; i++) {
        int r = (lane + 32 * i) / 8, chunk = lane % 8;
        float v[8], factor[8];
        load8(v, (const bf16 *)(tile + tile_at(r, chunk)));
        if (row + r < last) {
            dropout_factor8(factor, mask, random_row(mask.key, row + r), column + 8 * chunk);
#pragma unroll
            for (int c = 0; c < 8; c++) v[c] *= factor[c];
        }
        store8((bf16 *)(masked + tile_at(r, chunk)), v);
    }
    __syncwarp();
}

/* A warp's share of 16 inner rows, from 64 columns, in shared memory; added to what it left there before where
 * `more`. */
template <int NT>
static __device__ __forceinline__ void inner_tile(const char *tile, uint32_t (*small)[NT][2], float *sums, bool more,
                                                  int begin, int end, int lane) {
    uint32_t a[4][4];
#pragma unroll
    for (int step = 0; step < 4; step++) load_matrix_x4(a[step], tile + tile_at(lane % 16, 2 * step + lane / 16));
#pragma unroll
    for (int nt = 0; nt < NT; nt++) {
        if (nt < begin || nt >= end) continue;
        float2 *upper = (float2 *)(sums + lane / 4 * Layout<NT>::SUM_ROW + 8 * nt + 2 * (lane % 4));
        float2 *lower = upper + 4 * Layout<NT>::SUM_ROW;
        float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (more) d[0] = upper->x, d[1] = upper->y, d[2] = lower->x, d[3] = lower->y;
#pragma unroll
        for (int step = 0; step < 4; step++) mma_16816(d, a[step], small[step][nt]);
        *upper = make_float2(d[0], d[1]);
        *lower = make_float2(d[2], d[3]);
    }
}

/* 64 columns of the gradient, 16 rows further. */
template <int NT>
static __device__ __forceinline__ void gradient_tile(const char *tile, const char *lows, float (*sum)[NT][4], int begin,
                                                     int end, int lane) {
    uint32_t b[NT][2], a[4];
    load_small_rows<NT>(b, lows + lane % 16 * Layout<NT>::LOW_ROW, lane);
#pragma unroll
    for (int mt = 0; mt < 4; mt++) {
        load_matrix_x4_transposed(a, tile + tile_at(lane % 8 + lane / 16 * 8, 2 * mt + lane / 8 % 2));
#pragma unroll
        for (int nt = 0; nt < NT; nt++)
            if (nt >= begin && nt < end) mma_16816(sum[mt][nt], a, b[nt]);
    }
}

/* The row and the four columns of 16 × 8·NT that a thread sums: eight neighbours read all banks, from one row or
 * the halves of two. */
struct Four {
    int row, at;
};

template <int NT> static __device__ __forceinline__ Four four_of(int item) {
    int eights = NT / 4, rest = item - TILE_ROWS * 8 * eights, pair = rest / 8;
    if (rest < 0) return Four{item / 8 % TILE_ROWS, item / (8 * TILE_ROWS) * 8 + item % 8};
    return Four{pair / 2 * 4 + pair % 2 + rest % 8 / 4 * 2, 8 * eights + rest % 4};
}

/* Sums 16 inner rows, those of tile `tile`, over the warps, in order. Other warps do it for other tiles. */
template <int NT>
static __device__ __forceinline__ void put_inner(const Walk<bf16> &k, const float *sums, int64_t row, int64_t last,
                                                 int strip, int first, int tile) {
    enum { ITEMS = TILE_ROWS * 2 * NT };
    row += (int64_t)tile * TILE_ROWS;
    sums += tile % Layout<NT>::BUFFERS * Layout<NT>::SUM_FLOATS;
    for (int item = ((int)threadIdx.x + tile * ITEMS) % THREADS; item < ITEMS; item += THREADS) {
        Four of = four_of<NT>(item);
        float total[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int warp = 0; warp < WARPS; warp++) {
            uint4 raw = load16(sums + (warp * TILE_ROWS + of.row) * Layout<NT>::SUM_ROW + 4 * of.at);
            total[0] += bits_float(raw.x), total[1] += bits_float(raw.y);
            total[2] += bits_float(raw.z), total[3] += bits_float(raw.w);
        }
        if (row + of.row < last)
            store16(k.inner + (strip * k.rows + row + of.row) * k.width + first + 4 * of.at,
                    make_uint4(float_bits(total[0]), float_bits(total[1]), float_bits(total[2]), float_bits(total[3])));
    }
}

template <int NT>
static __device__ __forceinline__ void put_gradient(const Walk<bf16> &k, float (*sum)[NT][4], int64_t column,
                                                    int64_t end, int first, int lane) {
    int64_t group = blockIdx.y;
#pragma unroll
    for (int mt = 0; mt < 4; mt++)
#pragma unroll
        for (int nt = 0; nt < NT; nt++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int64_t c = column + 16 * mt + 8 * half + lane / 4;
                int j = first + 8 * nt + 2 * (lane % 4);
                const float *v = sum[mt][nt] + 2 * half;
                if (c >= end) continue;
                if (k.of_dy) {
                    *(float2 *)(k.gradient + (group * k.cols + c) * k.width + j) = make_float2(v[0], v[1]);
                } else {
                    k.gradient[(group * k.width + j) * k.cols + c] = v[0];
                    k.gradient[(group * k.width + j + 1) * k.cols + c] = v[1];
                }
            }
}

/* How many tiles beside each other a warp takes, and how many blocks a processor: as registers allow. */
static __host__ __device__ constexpr int tiles_beside(int nt, bool inner, bool gradient) {
    return inner && !gradient && nt <= 6 ? 2 : 1;
}

static __host__ __device__ constexpr int blocks_beside(int nt) { return nt <= 2 ? 2 : 1; }

/* Grid: strips, groups of rows, passes of 8 · NT inner columns. NORMED: x is normalised first. */
template <int NT, bool INNER, bool GRADIENT, bool NORMED = false>
static __global__ void __launch_bounds__(THREADS, blocks_beside(NT)) skinny_kernel(Walk<bf16> k) {
    typedef Layout<NT, INNER> At;
    enum { TILES = tiles_beside(NT, INNER, GRADIENT) };
    char *shared = shared_memory();
    float *sums = (float *)(shared + At::SUMS);
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, pass = (int)blockIdx.z * NT * 8;
    Strip strip = strip_at(k, (int)blockIdx.x);
    int64_t columns = strip.begin + warp * TILES * TILE_COLS; /* the warp's */
    int64_t row = blockIdx.y * k.group_rows, last = row + k.group_rows < k.rows ? row + k.group_rows : k.rows;
    bool masks = !(INNER && GRADIENT) && k.lora.drops && !k.of_dy; /* both are wanted of dy alone */
    uint32_t small[INNER ? TILES : 1][4][NT][2];
    float sum[GRADIENT ? TILES : 1][4][NT][4];
    Normal normal;
    if (NORMED) normal = normal_at(k, row, last, columns, strip.end, lane);
    if (INNER) {
#pragma unroll
        for (int at = 0; at < TILES * 8 * NT; at++) {
            int step = at / 2 / NT, nt = at / 2 % NT, half = at % 2, j = pass + 8 * nt + lane / 4;
            int64_t c = columns + 16 * step + 8 * half + 2 * (lane % 4);
            small[step / 4][step % 4][nt][half] = pack_bf16(small_at(k, strip, c, j), small_at(k, strip, c + 1, j));
        }
    }
    if (GRADIENT) {
#pragma unroll
        for (int at = 0; at < TILES * 16 * NT; at++) sum[at / 16 / NT][at / 4 / NT % 4][at / 4 % NT][at % 4] = 0.0f;
    }
    int steps = (int)((last - row + TILE_ROWS - 1) / TILE_ROWS) * TILES, loaded = 0;
    for (int step = 1 - STAGES; step < steps; step += step < 0 ? 1 : TILES) { /* the loads run ahead */
#pragma unroll
        for (int beside = 0; beside < TILES; beside++) {
            if (step < 0 && beside) break;
            if (step >= 0) {
                copy_async_wait<STAGES - 2>();
                if (NORMED) {
                    norm_tile(normal, shared + ((step & (STAGES - 1)) * WARPS + warp) * TILE_BYTES, lane);
                    normal.rstd = rstd_ahead(k, row + (int64_t)(step + 1) * TILE_ROWS, last, lane);
                }
                __syncthreads(); /* this step's tiles are here; the last one's have been read, its sums are there */
                if (INNER && At::BUFFERS > 1 && step > 0 && !beside)
                    put_inner<NT>(k, sums, row, last, (int)blockIdx.x, pass, step / TILES - 1);
            }
            if (loaded < steps) {
                int stage = loaded & (STAGES - 1), tile = loaded / TILES;
                int64_t from = row + (int64_t)tile * TILE_ROWS, column = columns + loaded % TILES * TILE_COLS;
                load_tile(k, shared + (stage * WARPS + warp) * TILE_BYTES, from, last, column, strip.end, lane);
                if (GRADIENT && loaded % TILES == 0)
                    load_low<NT>(k, shared + At::LOWS + (tile & (STAGES - 1)) * TILE_ROWS * At::LOW_ROW, from, last,
                                 strip.first + pass, strip.rank - pass, (int)threadIdx.x);
            }
            loaded++;
            copy_async_commit();
            if (step < 0) continue;
            const char *tile = shared + (((step + beside) & (STAGES - 1)) * WARPS + warp) * TILE_BYTES;
            const char *lows = shared + At::LOWS + (step / TILES & (STAGES - 1)) * TILE_ROWS * At::LOW_ROW;
            int64_t at = row + (int64_t)(step / TILES) * TILE_ROWS, column = columns + beside * TILE_COLS;
            for (int i = 0; i < (masks ? LINEAR_PARTS : 1); i++) {
                const LoraPart &p = k.lora.part[i];
                int begin = masks ? (p.first - pass) / 8 : 0;
                int end = masks && i + 1 < LINEAR_PARTS ? (p.first + p.rank - pass) / 8 : NT;
                const char *from = tile;
                if (end <= 0 || begin >= NT || begin >= end) continue;
                if (masks && p.drops) {
                    char *masked = shared + At::MASKED + warp * TILE_BYTES;
                    mask_tile(p.mask, masked, tile, at, last, column, lane);
                    from = masked;
                }
                if (INNER)
                    inner_tile<NT>(from, small[beside],
                                   sums + step / TILES % At::BUFFERS * At::SUM_FLOATS + warp * TILE_ROWS * At::SUM_ROW,
                                   beside > 0, begin, end, lane);
                if (GRADIENT) gradient_tile<NT>(from, lows, sum[beside], begin, end, lane);
            }
        }
        if (INNER && step >= 0 && (At::BUFFERS == 1 || step + TILES >= steps)) {
            __syncthreads();
            put_inner<NT>(k, sums, row, last, (int)blockIdx.x, pass, step / TILES);
        }
    }
#pragma unroll
    for (int beside = 0; beside < TILES; beside++)
        if (GRADIENT) put_gradient<NT>(k, sum[beside], columns + beside * TILE_COLS, strip.end, pass, lane);
}

/* ---- sums over strips and over groups of rows ---- */

static __global__ void __launch_bounds__(THREADS) gather_kernel(Walk<bf16> k, Inner<bf16> to) {
    int cols = inner_cols(to, k.lora.rank);
    int64_t item = (int64_t)blockIdx.x * THREADS + threadIdx.x, row = item / cols;
    int j = (int)(item % cols), strip = 0, strips = strips_of(k.cols, k.strip), inner = j;
    if (row >= k.rows) return;
    if (k.of_dy && j < k.lora.rank) {
        int part = part_of_inner(k.lora, j);
        for (int i = 0; i < part; i++) strip += part_strips(k, i);
        strips = part_strips(k, part);
        inner = j - k.lora.part[part].first;
    }
    float total = 0.0f;
    for (int s = 0; s < strips && j < k.lora.rank; s++)
        total += k.inner[((strip + s) * k.rows + row) * k.width + inner];
    put_inner_element(to, row, j, k.lora.rank, total);
}

static __global__ void __launch_bounds__(THREADS) add_groups_kernel(Walk<bf16> k, Gradients to) {
    int64_t item = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    int64_t c = k.of_dy ? item / k.width : item % k.cols;
    int j = (int)(k.of_dy ? item % k.width : item / k.cols);
    if (item >= (k.of_dy ? k.width : (int64_t)k.lora.rank) * k.cols) return;
    float *at = gradient_at(k, to, j, c), total = 0.0f;
    if (!at) return;
    for (int g = 0; g < k.groups; g++)
        total +=
            k.gradient[k.of_dy ? ((int64_t)g * k.cols + c) * k.width + j : ((int64_t)g * k.width + j) * k.cols + c];
    *at += k.of_dy ? k.lora.part[part_of_output(k.lora, c)].scale * total : total;
}

/* ---- launching ---- */

/* As few as leave hardly a processor idle while others work. No more for fewer rows. */
int64_t most_groups(int strips, int64_t rows, int beside) {
    int64_t most = (rows + GROUP_LEAST - 1) / GROUP_LEAST, slots = (int64_t)PROCESSORS * beside, best = 1;
    double busy = 0.0;
    for (int64_t groups = 1; strips && groups <= most && groups <= GROUPS_MOST; groups++) {
        int64_t blocks = strips * groups, waves = (blocks + slots - 1) / slots;
        double share = (double)blocks / (double)(waves * slots);
        if (share > busy + 0.03) busy = share, best = groups;
    }
    return best;
}

/* Two passes of fewer where a block cannot have so much shared memory. */
static int tiles_on(const Device *dev, int rank) {
    int nt = tiles_across(rank);
    return nt == 8 && Layout<8>::MASKED > dev->block_shared ? 6 : nt;
}

/* Whether dropout's masked tile fits beside inner rows' sums, which is so on all GPUs but those with the least. */
static bool masks_fit(const Device *dev, const Skinny *s, const LoraParts *lora) {
    return !(lora->drops && !s->of_dy && wants_inner(s)) || Layout<8>::ALL <= dev->block_shared;
}

/* The plan of a walk, without its partial sums' memory. */
static Walk<bf16> walk_of(const Device *dev, const Skinny *s, const LoraParts *lora) {
    Walk<bf16> k = {};
    int rank = rank_across(s, lora), nt = tiles_on(dev, rank);
    bool inner = wants_inner(s), gradient = wants_gradient(s);
    k.large = (const bf16 *)s->large.data, k.ld = s->large.ld, k.rows = s->large.rows, k.cols = s->large.cols;
    k.low = (const bf16 *)s->low.data, k.ldlow = s->low.ld;
    k.gamma = (const bf16 *)s->gamma.data, k.rstd = (const float *)s->rstd.data, k.ldrstd = s->rstd.ld;
    k.lora = *lora, k.of_dy = s->of_dy;
    bool few = !gradient && k.rows <= FEW_ROWS;
    k.strip = tiles_beside(nt, inner, gradient) * TILE_COLS * (few ? 1 : (int)WARPS);
    k.width = (rank + 8 * nt - 1) / (8 * nt) * 8 * nt;
    int64_t most = most_groups(strip_count(k), k.rows, blocks_beside(nt));
    k.group_rows = ((k.rows + most - 1) / most + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    k.groups = k.rows ? (int)((k.rows + k.group_rows - 1) / k.group_rows) : 0;
    return k;
}

/* Whether whole rows are taken, of however many. */
static bool by_rows(const Skinny *s) { return !s->of_dy && !wants_gradient(s); }

/* Floats of partial sums, of the inner rows and of the gradients; for any fewer rows no more. */
static int64_t inner_floats(const Skinny *s, const Walk<bf16> &k) {
    int64_t rows = by_rows(s) ? 0 : strip_count(k) * k.rows, few = k.rows < FEW_ROWS ? k.rows : FEW_ROWS;
    Walk<bf16> narrow = k;
    narrow.strip = TILE_COLS;
    few *= strip_count(narrow);
    return wants_inner(s) ? (rows > few ? rows : few) * k.width : 0;
}

static int64_t gradient_floats(const Device *dev, const Skinny *s, const Walk<bf16> &k) {
    int beside = blocks_beside(tiles_on(dev, rank_across(s, &k.lora)));
    return wants_gradient(s) ? most_groups(strip_count(k), k.rows, beside) * k.width * k.cols : 0;
}

size_t skinny_scratch(const Device *dev, const Skinny *s, const LoraParts *lora) {
    if (!lora->rank || s->large.dtype != DTYPE_BF16) return 0;
    Walk<bf16> k = walk_of(dev, s, lora);
    size_t sums = (size_t)(inner_floats(s, k) + gradient_floats(dev, s, k)) * sizeof(float);
    size_t packed = by_rows(s) && k.rows > FEW_ROWS ? (size_t)(lora->rank * k.cols) * sizeof(bf16) : 0;
    return sums > packed ? sums : packed;
}

/* Whether 16-byte copies and whole fragments do. */
static bool tiles_fit(const Skinny *s, const LoraParts *lora) {
    if (s->large.dtype != DTYPE_BF16 || !rows_whole(s->large) || !rows_whole(s->gate) || !rows_whole(s->up)) return false;
    for (int i = 0; i < LINEAR_PARTS; i++)
        if (lora->part[i].rank % 8 || (s->of_dy && lora->part[i].outputs % 8)) return false;
    return !wants_gradient(s) || ((uintptr_t)s->low.data % 16 == 0 && s->low.ld % 8 == 0);
}

bool sum_strips(Device *dev, const Walk<bf16> &k, const Inner<bf16> &to, Error *err) {
    return LAUNCH(dev, err, gather_kernel, blocks_for(k.rows * inner_cols(to, k.lora.rank), THREADS), THREADS, 0, k,
                  to);
}

bool sum_groups(Device *dev, const Walk<bf16> &k, const Tensor gradient[LINEAR_PARTS], Error *err) {
    int64_t sums = (k.of_dy ? k.width : (int64_t)k.lora.rank) * k.cols;
    return LAUNCH(dev, err, add_groups_kernel, blocks_for(sums, THREADS), THREADS, 0, k, gradients_of(gradient));
}

template <int NT> static bool walk(Device *dev, const Walk<bf16> &k, bool inner, bool gradient, Error *err) {
    dim3 grid((unsigned)strip_count(k), (unsigned)k.groups, (unsigned)(k.width / (8 * NT)));
    typedef Layout<NT, true> Both;
    typedef Layout<NT, false> Alone; /* gradients */
    bool masks = k.lora.drops && !k.of_dy;
    size_t shared = masks ? Both::ALL : Both::MASKED;
    if (!inner) shared = masks ? Alone::ALL : Alone::MASKED;
    if (inner && gradient) return LAUNCH(dev, err, (skinny_kernel<NT, true, true>), grid, THREADS, shared, k);
    if (inner) return LAUNCH(dev, err, (skinny_kernel<NT, true, false>), grid, THREADS, shared, k);
    if (k.gamma) return LAUNCH(dev, err, (skinny_kernel<NT, false, true, true>), grid, THREADS, shared, k);
    return LAUNCH(dev, err, (skinny_kernel<NT, false, true>), grid, THREADS, shared, k);
}

static bool skinny_tiles(Device *dev, const Skinny *s, const LoraParts *lora, void *scratch, Error *err) {
    Walk<bf16> k = walk_of(dev, s, lora);
    bool inner = wants_inner(s), gradient = wants_gradient(s), ok;
    k.inner = (float *)scratch;
    k.gradient = k.inner + inner_floats(s, k);
    switch (tiles_on(dev, rank_across(s, lora))) {
    case 2:
        ok = walk<2>(dev, k, inner, gradient, err);
        break;
    case 4:
        ok = walk<4>(dev, k, inner, gradient, err);
        break;
    case 6:
        ok = walk<6>(dev, k, inner, gradient, err);
        break;
    default:
        ok = walk<8>(dev, k, inner, gradient, err);
        break;
    }
    if (ok && inner) ok = sum_strips(dev, k, inner_of<bf16>(s), err);
    return ok && (!gradient || sum_groups(dev, k, s->gradient, err));
}

bool skinny(Device *dev, const Skinny *s, const LoraParts *lora, void *scratch, Error *err) {
    if (!lora->rank || !s->large.rows || !(wants_inner(s) || wants_gradient(s))) return true;
    bool whole = tiles_fit(s, lora) && by_rows(s) && s->large.rows > FEW_ROWS;
    if (tensor_present(s->gate) && !(whole && lora->rank <= ONE_PASS)) {
        Skinny made = *s;
        made.gate = made.up = Tensor();
        return gated_unit(dev, s->gate, s->up, s->large, err) && skinny(dev, &made, lora, scratch, err);
    }
    if (whole) return inner_by_rows(dev, walk_of(dev, s, lora), s, scratch, err);
    if (tiles_fit(s, lora) && masks_fit(dev, s, lora)) return skinny_tiles(dev, s, lora, scratch, err);
    return skinny_plain(dev, s, lora, err);
}
