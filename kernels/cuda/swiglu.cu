/* SwiGLU together with LoRA's products of what passes.
 *
 * Backward, a block takes a strip of columns, so many to each of its warps, and walks down a group of rows, 16 at a
 * time. A warp makes dgate, dup and the forward's product y of its tiles of gate, up and dy, in their places in shared
 * memory, and stores the first two. From there the tensor cores take them: dgate and dup by sB to the inner rows,
 * which are summed over the warps and later over strips; and all three, transposed, by the small operands of their
 * rows to the gradients of B and A, which stay in registers until the group's end. The sums have a fixed order.
 *
 * Where sizes are odd, ranks large or absent, and in fp32, the unit alone and then LoRA's own kernels do the same. */
#include "kernels/cuda/carve.cuh"
#include "kernels/cuda/lora_walk.cuh"
#include "kernels/cuda/swiglu.cuh"

enum { OUT_GATE, OUT_UP, OUT_PRODUCT, OUTS };
enum { STAGES = 3, TILE_ROWS = 16, TILE_COLS = 32, TILE_BYTES = TILE_ROWS * TILE_COLS * 2 };

/* Ranks of up to 8 · NT; more of them leave registers to fewer warps. */
template <int NT> struct Backward {
    enum {
        WARPS_HERE = NT <= 2 ? 16 : 8,
        BLOCK = 32 * WARPS_HERE,
        STRIP = TILE_COLS * WARPS_HERE,
        WIDTH = 8 * NT,
        LOW_ROW = (NT + 1) * 16, /* bytes, an odd number of 16: ldmatrix without conflicts */
        LOW_BYTES = TILE_ROWS * LOW_ROW,
        SUM_ROW = 2 * WIDTH, /* floats: of dgate, then of dup */
        SUM_FLOATS = WARPS_HERE * TILE_ROWS * SUM_ROW,
        STAGE_BYTES = WARPS_HERE * OUTS * TILE_BYTES,
        LOWS = STAGES * STAGE_BYTES, /* where the parts of shared memory begin */
        SUMS = LOWS + STAGES * OUTS * LOW_BYTES,
        ALL = SUMS + 2 * SUM_FLOATS * (int)sizeof(float) /* one is read while the other is filled */
    };
};

struct GatedWalk {
    const bf16 *gate, *up, *dy;
    bf16 *dgate, *dup;
    int64_t ld, lddy;   /* of all but dy; of dy */
    Walk<bf16> outputs; /* of gate's and up's gradients, as one dy */
    Walk<bf16> product; /* of y, as an x */
    bool inner, gradient[OUTS];
    int up_strips; /* the number of up's first */
};

/* Where a lane's 16 bytes of every eighth row are, the rows of a group counted from `row`: `at` in gate, up and their
 * gradients, `dy_at` in dy, in bytes from the group's first row, `left` rows of the group from the lane's on. Offsets
 * of 32 bits, which a uniform address is added to, spare the loop most of its arithmetic. */
struct Lane {
    uint32_t at, dy_at;
    int left; /* 0 or less: none */
};

/* ---- a warp's tiles ---- */

/* Chunk `chunk` of 8 columns in row `row`: eight rows of a chunk lie in different banks. */
static __device__ __forceinline__ int tile_at(int row, int chunk) { return row * 64 + ((chunk ^ (row / 2 % 4)) << 4); }

/* Where a column of a row's sums lies, so that four rows' lanes meet in no bank. */
static __device__ __forceinline__ int sum_at(int row, int column) { return column ^ (row % 4 * 8); }

template <typename T> static __device__ __forceinline__ T *at_byte(T *base, uint32_t offset) {
    return (T *)((char *)base + offset);
}

static __device__ __forceinline__ Lane lane_of(const GatedWalk &a, int64_t column, int rows, int lane) {
    Lane l;
    int64_t c = column + lane % 4 * 8;
    l.at = (uint32_t)(2 * (lane / 4 * a.ld + c)), l.dy_at = (uint32_t)(2 * (lane / 4 * a.lddy + c));
    l.left = c < a.product.cols ? rows - lane / 4 : 0;
    return l;
}

static __device__ __forceinline__ void next_rows(const GatedWalk &a, Lane *l) {
    l->at += (uint32_t)(2 * TILE_ROWS * a.ld), l->dy_at += (uint32_t)(2 * TILE_ROWS * a.lddy);
    l->left -= TILE_ROWS;
}

/* The lane's bytes of a tile, `room` being where its first are to lie, and the others 8 rows on. */
static __device__ __forceinline__ void load_tile(char *room, const bf16 *from, uint32_t at, int64_t ld, int left) {
#pragma unroll
    for (int i = 0; i < TILE_ROWS / 8; i++) {
        bool valid = 8 * i < left;
        copy_async16(room + 512 * i, valid ? at_byte(from, at + (uint32_t)(16 * i * ld)) : from, valid);
    }
}

/* The small operand's rows that go with an output's: low, or the down projection's dlow. */
template <int NT>
static __device__ __forceinline__ void load_low(char *to, const GatedWalk &a, int out, int64_t row, int64_t last,
                                                int item) {
    const Walk<bf16> &k = out == OUT_PRODUCT ? a.product : a.outputs;
    const LoraPart &p = k.lora.part[out == OUT_UP];
    int r = item / NT, chunk = item % NT;
    bool valid = row + r < last && 8 * chunk < p.rank;
    copy_async16(to + r * Backward<NT>::LOW_ROW + 16 * chunk,
                 valid ? k.low + (row + r) * k.ldlow + p.first + 8 * chunk : k.low, valid);
}

/* What dropout leaves of eight elements of y as they are stored. */
static __device__ __forceinline__ void drop8(float y[8], const DropoutMask &mask, int64_t row, int64_t column) {
    float factor[8];
    Eight<bf16> rounded;
    pack8(rounded, y);
    unpack8(y, rounded);
    dropout_factor8(factor, mask, random_row(mask.key, row), column);
#pragma unroll
    for (int c = 0; c < 8; c++) y[c] *= factor[c];
}

/* Dropout's place of a lane's elements: its first row and column. */
struct Drawn {
    int64_t row, column;
};

/* A lane's share of the tiles of gate, up and dy becomes that of dgate, dup and dropout(y); it finds in `room` what it
 * loaded itself. */
template <bool DROPS>
static __device__ __forceinline__ void make_tiles(char *room, const GatedWalk &a, bf16 *dgate, bf16 *dup, const Lane &l,
                                                  const Drawn &drawn) {
#pragma unroll
    for (int i = 0; i < TILE_ROWS / 8; i++) {
        char *at = room + 512 * i;
        float gate[8], up[8], dy[8];
        Eight<bf16> first, second;
        load8(gate, (const bf16 *)at);
        load8(up, (const bf16 *)(at + OUT_UP * TILE_BYTES));
        load8(dy, (const bf16 *)(at + OUT_PRODUCT * TILE_BYTES));
#pragma unroll
        for (int c = 0; c < 8; c++) gated_gradients(&gate[c], &up[c], &dy[c]);
        if (DROPS && 8 * i < l.left) drop8(dy, a.product.lora.part[0].mask, drawn.row + 8 * i, drawn.column);
        pack8(first, gate);
        pack8(second, up);
        store16(at, first.part[0]);
        store16(at + OUT_UP * TILE_BYTES, second.part[0]);
        store8((bf16 *)(at + OUT_PRODUCT * TILE_BYTES), dy);
        if (8 * i >= l.left) continue;
        uint32_t to = l.at + (uint32_t)(16 * i * a.ld);
        store16(at_byte(dgate, to), first.part[0]);
        store16(at_byte(dup, to), second.part[0]);
    }
    __syncwarp();
}

/* ---- the products ---- */

/* A warp's share of 16 inner rows of dgate or dup. */
template <int NT>
static __device__ __forceinline__ void inner_tile(const char *tile, const uint32_t (*small)[NT][2], float *sums,
                                                  int first, int lane) {
    uint32_t a[2][4];
#pragma unroll
    for (int step = 0; step < 2; step++) load_matrix_x4(a[step], tile + tile_at(lane % 16, 2 * step + lane / 16));
#pragma unroll
    for (int nt = 0; nt < NT; nt++) {
        int row = lane / 4, at = sum_at(row, first + 8 * nt + 2 * (lane % 4)); /* of row + 8 as well */
        float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int step = 0; step < 2; step++) mma_16816(d, a[step], small[step][nt]);
        *(float2 *)(sums + row * Backward<NT>::SUM_ROW + at) = make_float2(d[0], d[1]);
        *(float2 *)(sums + (row + 8) * Backward<NT>::SUM_ROW + at) = make_float2(d[2], d[3]);
    }
}

/* Sums 16 inner rows, those of step `step`, over the warps, in order; other warps do it for other steps. */
template <int NT>
static __device__ __forceinline__ void put_inner(const GatedWalk &a, const float *sums, int64_t row, int64_t last,
                                                 int step) {
    typedef Backward<NT> At;
    enum { ITEMS = TILE_ROWS * At::SUM_ROW / 4 };
    const Walk<bf16> &k = a.outputs;
    int item = ((int)threadIdx.x + step * ITEMS) % At::BLOCK, r = item / (At::SUM_ROW / 4);
    int column = sum_at(r, item % (At::SUM_ROW / 4) * 4), up = column >= At::WIDTH;
    row += (int64_t)step * TILE_ROWS + r;
    if (item >= ITEMS || row >= last || column % At::WIDTH >= k.lora.part[up].rank) return;
    sums += step % 2 * At::SUM_FLOATS;
    float total[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int warp = 0; warp < At::WARPS_HERE; warp++) {
        uint4 raw = load16(sums + (warp * TILE_ROWS + r) * At::SUM_ROW + item % (At::SUM_ROW / 4) * 4);
        total[0] += bits_float(raw.x), total[1] += bits_float(raw.y);
        total[2] += bits_float(raw.z), total[3] += bits_float(raw.w);
    }
    int64_t strip = blockIdx.x + (up ? a.up_strips : 0);
    store16(k.inner + (strip * k.rows + row) * k.width + column % At::WIDTH,
            make_uint4(float_bits(total[0]), float_bits(total[1]), float_bits(total[2]), float_bits(total[3])));
}

/* A warp's columns of a gradient, 16 rows further. */
template <int NT>
static __device__ __forceinline__ void gradient_tile(const char *tile, const char *low, float (*sum)[NT][4], int lane) {
    uint32_t b[NT][2], a[4];
    load_small_rows<NT>(b, low + lane % 16 * Backward<NT>::LOW_ROW, lane);
#pragma unroll
    for (int mt = 0; mt < 2; mt++) {
        load_matrix_x4_transposed(a, tile + tile_at(lane % 8 + lane / 16 * 8, 2 * mt + lane / 8 % 2));
#pragma unroll
        for (int nt = 0; nt < NT; nt++) mma_16816(sum[mt][nt], a, b[nt]);
    }
}

/* The group's sums of a gradient, as sum_groups expects them of dy and of x. */
template <int NT>
static __device__ __forceinline__ void put_gradient(const GatedWalk &a, int out, float (*sum)[NT][4], int64_t column,
                                                    int lane) {
    const Walk<bf16> &k = out == OUT_PRODUCT ? a.product : a.outputs;
    int64_t group = blockIdx.y, from = k.lora.part[out == OUT_UP].output;
#pragma unroll
    for (int at = 0; at < 4 * NT; at++) {
        int nt = at / 4, half = at % 2, mt = at / 2 % 2, j = 8 * nt + 2 * (lane % 4);
        int64_t c = column + 16 * mt + 8 * half + lane / 4;
        float first = sum[mt][nt][2 * half], second = sum[mt][nt][2 * half + 1];
        if (c >= a.product.cols || j >= k.width) continue;
        if (out != OUT_PRODUCT) {
            *(float2 *)(k.gradient + (group * k.cols + from + c) * k.width + j) = make_float2(first, second);
        } else {
            k.gradient[(group * k.width + j) * k.cols + c] = first;
            k.gradient[(group * k.width + j + 1) * k.cols + c] = second;
        }
    }
}

/* sB[c, j] of gate's or up's pair. */
static __device__ __forceinline__ float scaled_b(const GatedWalk &a, int part, int64_t c, int j) {
    const LoraPart &p = a.outputs.lora.part[part];
    return c < a.product.cols && j < p.rank ? p.scale * p.b[c * p.ldb + j] : 0.0f;
}

/* Grid: strips, groups of rows. */
template <int NT, bool DROPS>
static __global__ void __launch_bounds__(Backward<NT>::BLOCK, 1) gated_backward_kernel(GatedWalk a) {
    typedef Backward<NT> At;
    char *shared = shared_memory();
    float *sums = (float *)(shared + At::SUMS);
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    int64_t column = (int64_t)blockIdx.x * At::STRIP + warp * TILE_COLS;
    int64_t row = blockIdx.y * a.product.group_rows, last = row + a.product.group_rows;
    if (last > a.product.rows) last = a.product.rows;
    uint32_t small[2][2][NT][2];
#pragma unroll
    for (int at = 0; at < 8 * NT; at++) {
        int part = at / 4 / NT, step = at / 2 / NT % 2, nt = at / 2 % NT, half = at % 2, j = 8 * nt + lane / 4;
        int64_t c = column + 16 * step + 8 * half + 2 * (lane % 4);
        small[part][step][nt][half] = pack_bf16(scaled_b(a, part, c, j), scaled_b(a, part, c + 1, j));
    }
    float sum[OUTS][2][NT][4] = {};
    const bf16 *gate = a.gate + row * a.ld, *up = a.up + row * a.ld, *dy = a.dy + row * a.lddy;
    bf16 *dgate = a.dgate + row * a.ld, *dup = a.dup + row * a.ld;
    Lane here = lane_of(a, column, (int)(last - row), lane), ahead = here;
    Drawn drawn = {row + lane / 4, column + lane % 4 * 8};
    int steps = (int)((last - row + TILE_ROWS - 1) / TILE_ROWS), stage = 0, filled = 0;
    char *const tiles = shared + warp * OUTS * TILE_BYTES, *const lows = shared + At::LOWS;
    const int room = tile_at(lane / 4, lane % 4);
    const int out_of = (int)threadIdx.x / (TILE_ROWS * NT), low_item = (int)threadIdx.x % (TILE_ROWS * NT);
    for (int step = 1 - STAGES; step < steps; step++) { /* the loads run ahead */
        if (step >= 0) {
            copy_async_wait<STAGES - 2>();
            __syncthreads(); /* this step's tiles are here; the last one's have been read, its sums are there */
            if (a.inner && step > 0) put_inner<NT>(a, sums, row, last, step - 1);
        }
        if (step + STAGES - 1 < steps) {
            char *to = tiles + filled * At::STAGE_BYTES + room;
            load_tile(to + OUT_GATE * TILE_BYTES, gate, ahead.at, a.ld, ahead.left);
            load_tile(to + OUT_UP * TILE_BYTES, up, ahead.at, a.ld, ahead.left);
            load_tile(to + OUT_PRODUCT * TILE_BYTES, dy, ahead.dy_at, a.lddy, ahead.left);
            if (out_of < OUTS && a.gradient[out_of])
                load_low<NT>(lows + (filled * OUTS + out_of) * At::LOW_BYTES, a, out_of,
                             row + (int64_t)(step + STAGES - 1) * TILE_ROWS, last, low_item);
            next_rows(a, &ahead);
            filled = filled + 1 < STAGES ? filled + 1 : 0;
        }
        copy_async_commit();
        if (step < 0) continue;
        const char *tile = tiles + stage * At::STAGE_BYTES, *low = lows + stage * OUTS * At::LOW_BYTES;
        make_tiles<DROPS>(tiles + stage * At::STAGE_BYTES + room, a, dgate, dup, here, drawn);
        next_rows(a, &here);
        drawn.row += TILE_ROWS;
        stage = stage + 1 < STAGES ? stage + 1 : 0;
        float *mine = sums + step % 2 * At::SUM_FLOATS + warp * TILE_ROWS * At::SUM_ROW;
#pragma unroll
        for (int out = 0; out < OUT_PRODUCT; out++)
            if (a.inner) inner_tile<NT>(tile + out * TILE_BYTES, small[out], mine, out * At::WIDTH, lane);
#pragma unroll
        for (int out = 0; out < OUTS; out++)
            if (a.gradient[out]) gradient_tile<NT>(tile + out * TILE_BYTES, low + out * At::LOW_BYTES, sum[out], lane);
    }
    __syncthreads();
    if (a.inner && steps > 0) put_inner<NT>(a, sums, row, last, steps - 1);
#pragma unroll
    for (int out = 0; out < OUTS; out++)
        if (a.gradient[out]) put_gradient<NT>(a, out, sum[out], column, lane);
}

/* ---- plans ---- */

/* The pairs of gate and up as those of one layer, and the down projection's. */
struct GatedLora {
    LoraParts outputs, product;
};

static GatedLora lora_of(const SwigluBackwardArgs *a) {
    int64_t f = a->dy.cols;
    Lora outputs[LINEAR_PARTS] = {a->gate_up.lora[0], a->gate_up.lora[1]}, product[LINEAR_PARTS] = {a->down.lora};
    outputs[0].b.rows = outputs[1].b.rows = f;
    return GatedLora{lora_parts(outputs, 0), lora_parts(product, f)};
}

static bool wants_gate_up(const SwigluBackwardArgs *a) {
    return tensor_present(a->gate_up.dlow) || tensor_present(a->gate_up.db[0]) || tensor_present(a->gate_up.db[1]);
}

static bool wants_any(const SwigluBackwardArgs *a) { return wants_gate_up(a) || tensor_present(a->down.da); }

/* A group has no more elements than 32-bit offsets reach, bytes and the rows that are loaded ahead included: so many rows
 * make that many groups at least. No limit of the rows themselves: what fewer need must never be more. */
enum { GROUP_ELEMENTS = 1 << 30, WIDEST_ROW = 1 << 22 };

static int64_t widest_ld(const SwigluBackwardArgs *a) { return a->gate.ld > a->dy.ld ? a->gate.ld : a->dy.ld; }

static int64_t least_groups(const SwigluBackwardArgs *a) { return a->dy.rows * widest_ld(a) / GROUP_ELEMENTS + 1; }

/* Whether 16-byte copies, whole fragments and 32-bit offsets do, and sums fit registers. */
static bool sizes_fit(const SwigluBackwardArgs *a, const GatedLora *lora) {
    const Tensor large[] = {a->gate, a->up, a->dy, a->dgate, a->dup};
    const Tensor small[] = {a->gate_up.low, a->down.dlow};
    const LoraPart *parts[] = {&lora->outputs.part[0], &lora->outputs.part[1], &lora->product.part[0]};
    if (a->dy.dtype != DTYPE_BF16 || widest_ld(a) > WIDEST_ROW) return false;
    if (a->up.ld != a->gate.ld || a->dgate.ld != a->gate.ld || a->dup.ld != a->gate.ld) return false;
    for (Tensor t : large)
        if (!rows_whole(t)) return false;
    for (Tensor t : small)
        if ((uintptr_t)t.data % 16 || t.ld % 8) return false;
    for (const LoraPart *p : parts)
        if (p->rank % 8 || p->rank > 32) return false;
    return true;
}

/* Which NT: 0 where the kernel does not fit. Dropout takes registers that NT = 2 has not. */
static int backward_tiles(const Device *dev, const SwigluBackwardArgs *a, const GatedLora *lora) {
    size_t most = dev->block_shared;
    const LoraPart *p = lora->outputs.part;
    bool narrow = p[0].rank <= 16 && p[1].rank <= 16 && lora->product.rank <= 16 && !lora->product.drops;
    if (!sizes_fit(a, lora)) return 0;
    if (narrow && Backward<2>::ALL <= most) return 2;
    return Backward<4>::ALL <= most ? 4 : 0;
}

/* The walk, its sums in scratch from `c` on. */
template <int NT> static GatedWalk walk_of(const SwigluBackwardArgs *a, const GatedLora *lora, Carve *c) {
    typedef Backward<NT> At;
    int64_t n = a->dy.rows, f = a->dy.cols;
    GatedWalk w = {};
    w.gate = (const bf16 *)a->gate.data, w.up = (const bf16 *)a->up.data, w.ld = a->gate.ld;
    w.dgate = (bf16 *)a->dgate.data, w.dup = (bf16 *)a->dup.data;
    w.dy = (const bf16 *)a->dy.data, w.lddy = a->dy.ld;
    w.inner = tensor_present(a->gate_up.dlow);
    w.gradient[OUT_GATE] = tensor_present(a->gate_up.db[0]), w.gradient[OUT_UP] = tensor_present(a->gate_up.db[1]);
    w.gradient[OUT_PRODUCT] = tensor_present(a->down.da);
    Walk<bf16> k = {};
    k.rows = n, k.cols = f, k.strip = At::STRIP;
    int strips = strips_of(f, At::STRIP);
    int64_t most = most_groups(strips, n, 1);
    if (most < least_groups(a)) most = least_groups(a);
    w.up_strips = lora->outputs.part[0].rank ? strips : 0;
    k.group_rows = ((n + most - 1) / most + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    k.groups = (int)((n + k.group_rows - 1) / k.group_rows);
    w.outputs = w.product = k;
    w.outputs.cols = 2 * f, w.outputs.of_dy = true, w.outputs.lora = lora->outputs;
    w.outputs.width = largest_rank(&lora->outputs), w.product.width = lora->product.rank;
    w.outputs.low = (const bf16 *)a->gate_up.low.data, w.outputs.ldlow = a->gate_up.low.ld;
    w.product.lora = lora->product;
    w.product.low = (const bf16 *)a->down.dlow.data, w.product.ldlow = a->down.dlow.ld;
    size_t outputs = (size_t)w.outputs.width * sizeof(float), product = (size_t)w.product.width * sizeof(float);
    if (w.inner) w.outputs.inner = (float *)carve(c, (size_t)(2 * strips * n) * outputs);
    if (w.gradient[OUT_GATE] || w.gradient[OUT_UP])
        w.outputs.gradient = (float *)carve(c, (size_t)(most * 2 * f) * outputs);
    if (w.gradient[OUT_PRODUCT]) w.product.gradient = (float *)carve(c, (size_t)(most * f) * product);
    return w;
}

/* Without tensor cores' kernel, da is made of so many rows' y at a time. */
enum { PRODUCT_ROWS = 1024 };

static int64_t product_rows(const SwigluBackwardArgs *a) {
    if (!tensor_present(a->down.da)) return 0;
    return a->dy.rows < PRODUCT_ROWS ? a->dy.rows : PRODUCT_ROWS;
}

/* Rows first .. first + n - 1 of what `a` says, without LoRA's side. */
static SwigluBackwardArgs rows_of(const SwigluBackwardArgs *a, int64_t first, int64_t n) {
    SwigluBackwardArgs part = *a;
    Tensor *const tensors[] = {&part.gate, &part.up, &part.dy, &part.dgate, &part.dup, &part.down.dlow};
    for (Tensor *t : tensors) *t = tensor_rows(*t, first, n);
    if (part.down.lora.dropout.p > 0.0f) {
        part.down.lora.dropout.sample += first;
        part.down.lora.dropout.position += first;
    }
    return part;
}

static Skinny product_skinny(const SwigluBackwardArgs *a, Tensor y) {
    Skinny s = {};
    s.large = y, s.low = a->down.dlow;
    s.gradient[0] = a->down.da;
    return s;
}

/* Of one part, which is gate's or up's; *lora becomes that part's alone. */
static Skinny output_skinny(const SwigluBackwardArgs *a, int part, LoraParts *lora) {
    Lora alone[LINEAR_PARTS] = {a->gate_up.lora[part]};
    int64_t rank = tensor_present(alone[0].a) ? alone[0].a.rows : 0;
    int64_t first = part && tensor_present(a->gate_up.lora[0].a) ? a->gate_up.lora[0].a.rows : 0;
    Skinny s = {};
    alone[0].b.rows = a->dy.cols;
    *lora = lora_parts(alone, 0);
    s.large = part ? a->dup : a->dgate, s.of_dy = true;
    s.gradient[0] = a->gate_up.db[part];
    if (tensor_present(a->gate_up.low)) s.low = tensor_cols(a->gate_up.low, first, rank);
    if (tensor_present(a->gate_up.dlow)) s.inner = tensor_cols(a->gate_up.dlow, first, rank);
    return s;
}

/* ---- backward ---- */

/* y's rows and the skinny products' scratch, where the kernel above does not fit. */
struct Apart {
    Tensor y;
    void *walk;
};

static Apart apart_of(const Device *dev, const SwigluBackwardArgs *a, const GatedLora *lora, Carve *c) {
    Apart p = {};
    int64_t n = product_rows(a);
    if (n) p.y = carve_tensor(c, a->dy.dtype, n, a->dy.cols);
    SwigluBackwardArgs some = rows_of(a, 0, n);
    Skinny of_product = product_skinny(&some, p.y);
    size_t most = n ? skinny_scratch(dev, &of_product, &lora->product) : 0;
    for (int part = 0; part < 2; part++) {
        LoraParts alone;
        Skinny s = output_skinny(a, part, &alone);
        size_t bytes = skinny_scratch(dev, &s, &alone);
        if (bytes > most) most = bytes;
    }
    p.walk = carve(c, most);
    return p;
}

static bool backward_apart(Device *dev, const SwigluBackwardArgs *a, const Apart *p, Error *err) {
    int64_t most = p->y.rows ? p->y.rows : a->dy.rows;
    for (int64_t first = 0; first < a->dy.rows; first += most) {
        int64_t n = a->dy.rows - first < most ? a->dy.rows - first : most;
        SwigluBackwardArgs some = rows_of(a, first, n);
        Tensor y = p->y;
        y.rows = n;
        if (!gated_unit_backward(dev, &some, y, err)) return false;
        LoraParts lora = lora_of(&some).product;
        Skinny s = product_skinny(&some, y);
        if (tensor_present(y) && !skinny(dev, &s, &lora, p->walk, err)) return false;
    }
    for (int part = 0; part < 2; part++) {
        LoraParts alone;
        Skinny s = output_skinny(a, part, &alone);
        if (!skinny(dev, &s, &alone, p->walk, err)) return false;
    }
    return true;
}

template <int NT>
static bool backward_together(Device *dev, const SwigluBackwardArgs *a, const GatedLora *lora, Carve *c, Error *err) {
    GatedWalk w = walk_of<NT>(a, lora, c);
    dim3 grid((unsigned)strips_of(a->dy.cols, Backward<NT>::STRIP), (unsigned)w.product.groups);
    enum { BLOCK = Backward<NT>::BLOCK, SHARED = Backward<NT>::ALL };
    const Tensor db[LINEAR_PARTS] = {a->gate_up.db[0], a->gate_up.db[1]}, da[LINEAR_PARTS] = {a->down.da};
    Tensor dlow = a->gate_up.dlow;
    Inner<bf16> to = {(bf16 *)dlow.data, NULL, dlow.ld, 0, 0};
    bool ok = NT > 2 && lora->product.drops
                  ? LAUNCH(dev, err, (gated_backward_kernel<NT, (NT > 2)>), grid, BLOCK, SHARED, w)
                  : LAUNCH(dev, err, (gated_backward_kernel<NT, false>), grid, BLOCK, SHARED, w);
    if (ok && w.inner) ok = sum_strips(dev, w.outputs, to, err);
    if (ok && (w.gradient[OUT_GATE] || w.gradient[OUT_UP])) ok = sum_groups(dev, w.outputs, db, err);
    return ok && (!w.gradient[OUT_PRODUCT] || sum_groups(dev, w.product, da, err));
}

extern "C" size_t cuda_swiglu_backward_scratch(const Device *dev, const SwigluBackwardArgs *a) {
    if (!a->dy.rows || !wants_any(a)) return 0;
    GatedLora lora = lora_of(a);
    Carve c = carve_from(NULL);
    int tiles = backward_tiles(dev, a, &lora);
    if (tiles == 2)
        walk_of<2>(a, &lora, &c);
    else if (tiles == 4)
        walk_of<4>(a, &lora, &c);
    else
        apart_of(dev, a, &lora, &c);
    return c.used;
}

extern "C" bool cuda_swiglu_backward(Device *dev, const SwigluBackwardArgs *a, Error *err) {
    if (!a->dy.rows) return true;
    if (!wants_any(a)) return gated_unit_backward(dev, a, Tensor(), err);
    char *scratch = (char *)device_scratch(dev, cuda_swiglu_backward_scratch(dev, a), err);
    if (!scratch) return fail_in(err, "swiglu_backward");
    GatedLora lora = lora_of(a);
    Carve c = carve_from(scratch);
    int tiles = backward_tiles(dev, a, &lora);
    if (tiles == 2) return backward_together<2>(dev, a, &lora, &c, err) || fail_in(err, "swiglu_backward");
    if (tiles == 4) return backward_together<4>(dev, a, &lora, &c, err) || fail_in(err, "swiglu_backward");
    Apart p = apart_of(dev, a, &lora, &c);
    return backward_apart(dev, a, &p, err) || fail_in(err, "swiglu_backward");
}

/* ---- forward ---- */

static LoraParts forward_lora(const SwigluArgs *a) {
    Lora down[LINEAR_PARTS] = {a->down};
    return lora_parts(down, a->y.cols);
}

static Skinny forward_skinny(const SwigluArgs *a) {
    Skinny s = {};
    s.large = a->y, s.gate = a->gate, s.up = a->up, s.inner = a->low;
    return s;
}

extern "C" size_t cuda_swiglu_scratch(const Device *dev, const SwigluArgs *a) {
    LoraParts lora = forward_lora(a);
    Skinny s = forward_skinny(a);
    return skinny_scratch(dev, &s, &lora);
}

extern "C" bool cuda_swiglu(Device *dev, const SwigluArgs *a, Error *err) {
    LoraParts lora = forward_lora(a);
    if (!lora.rank) return gated_unit(dev, a->gate, a->up, a->y, err);
    void *scratch = device_scratch(dev, cuda_swiglu_scratch(dev, a), err);
    Skinny s = forward_skinny(a);
    return (scratch && skinny(dev, &s, &lora, scratch, err)) || fail_in(err, "swiglu");
}
