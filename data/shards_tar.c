/* The bytes of a sample: ustar members (POSIX.1-2001) in a zstd frame. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>

#include "data/shards_format.h"

enum { NAME_FIELD = 100, SIZE_AT = 124, SUM_AT = 148, TYPE_AT = 156, SIZE_OCTAL = 11, SUM_OCTAL = 6 };
static const size_t FRAME_CONTENT_MAX = (size_t)4 << 30;

uint64_t bytes_hash(const void *data, size_t size) { return XXH64(data, size, 0); }

char *shard_encode_id(const char *id, Error *err) {
    Text text = {0};
    for (const unsigned char *c = (const unsigned char *)id; *c; c++) {
        bool plain =
            (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '_' || *c == '-';
        if (plain)
            text_add(&text, (const char *)c, 1);
        else
            text_addf(&text, "%%%02X", *c);
    }
    return text_finish(&text, err);
}

static unsigned header_sum(const unsigned char *header) {
    unsigned sum = 0;
    for (int i = 0; i < TAR_BLOCK; i++) sum += i >= SUM_AT && i < SUM_AT + 8 ? ' ' : header[i];
    return sum;
}

static void add_member(Text *tar, char type, const char *name, const void *data, size_t size) {
    char header[TAR_BLOCK] = {0};
    size_t length = strlen(name);
    memcpy(header, name, length < NAME_FIELD ? length : NAME_FIELD);
    memcpy(header + 100, "0000644", 8);
    memcpy(header + 108, "0000000", 8); /* user */
    memcpy(header + 116, "0000000", 8); /* group */
    snprintf(header + SIZE_AT, 12, "%011zo", size);
    memcpy(header + 136, "00000000000", 12); /* time */
    header[TYPE_AT] = type;
    memcpy(header + 257, "ustar\00000", 8);
    snprintf(header + SUM_AT, 8, "%06o", header_sum((unsigned char *)header));
    header[SUM_AT + 7] = ' ';
    text_add(tar, header, sizeof header);
    text_add(tar, data, size);
    static const char zeros[TAR_BLOCK] = {0};
    text_add(tar, zeros, (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

/* A pax record is "LENGTH path=NAME\n", its length counting its own digits. */
static void add_long_name(Text *tar, const char *name) {
    size_t rest = strlen(" path=\n") + strlen(name), length = rest;
    char digits[24];
    for (;;) {
        size_t whole = rest + (size_t)snprintf(digits, sizeof digits, "%zu", length);
        if (whole == length) break;
        length = whole;
    }
    Text record = {0};
    text_addf(&record, "%zu path=%s\n", length, name);
    if (record.failed)
        tar->failed = true;
    else
        add_member(tar, 'x', "PaxHeader", record.data, record.length);
    text_free(&record);
}

bool tar_add(Text *tar, const char *name, const void *data, size_t size, Error *err) {
    if (size >= (size_t)1 << 33) return fail(err, "%s: %zu bytes are too many for a tar member", name, size);
    if (strlen(name) > NAME_FIELD) add_long_name(tar, name);
    add_member(tar, '0', name, data, size);
    return !tar->failed || fail(err, "out of memory while packing %s", name);
}

static bool read_octal(const unsigned char *field, int digits, size_t *value) {
    *value = 0;
    for (int i = 0; i < digits; i++) {
        if (field[i] < '0' || field[i] > '7') return false;
        *value = *value * 8 + (size_t)(field[i] - '0');
    }
    return true;
}

static bool ends_with(const char *name, size_t length, const char *suffix) {
    size_t tail = strlen(suffix);
    return length >= tail && memcmp(name + length - tail, suffix, tail) == 0;
}

bool tar_find(const unsigned char *tar, size_t size, const char *suffix, const unsigned char **data, size_t *bytes,
              const char *where, Error *err) {
    const char *long_name = NULL;
    size_t long_length = 0;
    for (size_t at = 0; at < size;) {
        size_t member, sum;
        if (size - at < TAR_BLOCK) return fail(err, "%s: a tar header is cut off", where);
        const unsigned char *header = tar + at;
        if (memcmp(header + 257, "ustar", 5) != 0 || !read_octal(header + SUM_AT, SUM_OCTAL, &sum) ||
            sum != header_sum(header) || !read_octal(header + SIZE_AT, SIZE_OCTAL, &member))
            return fail(err, "%s: a tar header is damaged", where);
        at += TAR_BLOCK;
        size_t padded = (member + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
        if (padded > size - at) return fail(err, "%s: a tar member is cut off", where);
        const unsigned char *content = tar + at;
        at += padded;
        if (header[TYPE_AT] == 'x') { /* the name is the record's end, before its line break */
            long_name = (const char *)content;
            long_length = member ? member - 1 : 0;
            continue;
        }
        const char *name = long_name ? long_name : (const char *)header;
        size_t length = long_name ? long_length : strnlen((const char *)header, NAME_FIELD);
        long_name = NULL;
        if (!ends_with(name, length, suffix)) continue;
        *data = content;
        *bytes = member;
        return true;
    }
    return fail(err, "%s: its tar holds no %s file", where, suffix);
}

unsigned char *frame_pack(const void *data, size_t size, int level, size_t *packed, Error *err) {
    size_t room = ZSTD_compressBound(size);
    ZSTD_CCtx *context = ZSTD_createCCtx();
    unsigned char *frame = memory_new(room, 1, err);
    if (!context) fail(err, "out of memory for a zstd context");
    size_t status = 0;
    if (context && frame) {
        ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level);
        ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
        status = ZSTD_compress2(context, frame, room, data, size);
        if (ZSTD_isError(status)) fail(err, "zstd cannot compress: %s", ZSTD_getErrorName(status));
    }
    ZSTD_freeCCtx(context);
    if (!context || !frame || ZSTD_isError(status)) {
        free(frame);
        return NULL;
    }
    *packed = status;
    return frame;
}

unsigned char *frame_unpack(const void *frame, size_t size, size_t *unpacked, const char *where, Error *err) {
    unsigned long long content = ZSTD_getFrameContentSize(frame, size);
    if (content == ZSTD_CONTENTSIZE_ERROR || content == ZSTD_CONTENTSIZE_UNKNOWN || content > FRAME_CONTENT_MAX) {
        fail(err, "%s: not a zstd frame of a known size", where);
        return NULL;
    }
    unsigned char *data = memory_new((size_t)content, 1, err);
    if (!data) return NULL;
    size_t status = ZSTD_decompress(data, (size_t)content, frame, size);
    if (ZSTD_isError(status) || status != content) {
        fail(err, "%s: its zstd frame is damaged: %s", where,
             ZSTD_isError(status) ? ZSTD_getErrorName(status) : "wrong size");
        free(data);
        return NULL;
    }
    *unpacked = (size_t)content;
    return data;
}
