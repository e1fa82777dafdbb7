/* For tests: builds the zip archives and pickles of torch.save byte by byte, damaged ones too. */
#ifndef SEMOLLM_TESTS_MODEL_TORCH_BUILDER_H
#define SEMOLLM_TESTS_MODEL_TORCH_BUILDER_H

#include "tests/test.h"

#define BYTES(literal) (literal), sizeof(literal) - 1

static inline void put_number(Text *out, uint64_t number, int bytes) {
    for (int i = 0; i < bytes; i++) {
        char byte = (char)(i < 8 ? number >> (8 * i) & 0xff : 0);
        text_add(out, &byte, 1);
    }
}

/* ---- zip ---- */

typedef struct ZipBuilder {
    Text file, directory;
    unsigned count;
} ZipBuilder;

static inline uint32_t crc32_slowly(const void *data, size_t size) {
    const unsigned char *bytes = data;
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

/* What the local header and the directory's record share, from the version on. */
static inline void zip_put_common(Text *out, const char *name, const void *data, size_t size, int method) {
    put_number(out, 20, 2); /* version */
    put_number(out, 0, 2);  /* flags */
    put_number(out, (uint64_t)method, 2);
    put_number(out, 0, 4); /* time */
    put_number(out, crc32_slowly(data, size), 4);
    put_number(out, size, 4);
    put_number(out, size, 4);
    put_number(out, strlen(name), 2);
    put_number(out, 0, 2); /* extra */
}

static inline void zip_put(ZipBuilder *zip, const char *name, const void *data, size_t size, int method) {
    size_t header = zip->file.length;
    text_add(&zip->file, "PK\3\4", 4);
    zip_put_common(&zip->file, name, data, size, method);
    text_add_string(&zip->file, name);
    text_add(&zip->file, data, size);
    text_add(&zip->directory, "PK\1\2", 4);
    put_number(&zip->directory, 20, 2);
    zip_put_common(&zip->directory, name, data, size, method);
    put_number(&zip->directory, 0, 10); /* comment, disk, attributes */
    put_number(&zip->directory, header, 4);
    text_add_string(&zip->directory, name);
    zip->count++;
}

static inline void zip_finish(ZipBuilder *zip) {
    size_t start = zip->file.length;
    text_add(&zip->file, zip->directory.data, zip->directory.length);
    text_add(&zip->file, "PK\5\6", 4);
    put_number(&zip->file, 0, 4);
    put_number(&zip->file, zip->count, 2);
    put_number(&zip->file, zip->count, 2);
    put_number(&zip->file, zip->directory.length, 4);
    put_number(&zip->file, start, 4);
    put_number(&zip->file, 0, 2);
    text_free(&zip->directory);
}

/* An archive of this pickle and one storage "0" of `size` bytes. */
static inline Text torch_archive(const Text *pickle, const void *storage, size_t size) {
    ZipBuilder zip = {0};
    zip_put(&zip, "archive/data.pkl", pickle->data, pickle->length, 0);
    zip_put(&zip, "archive/byteorder", BYTES("little"), 0);
    zip_put(&zip, "archive/data/0", storage, size, 0);
    zip_finish(&zip);
    return zip.file;
}

/* ---- pickle ---- */

static inline void pickle_put_text(Text *out, const char *text, size_t length) {
    text_add(out, "X", 1);
    put_number(out, length, 4);
    text_add(out, text, length);
}

static inline void pickle_put_global(Text *out, const char *module, const char *name) {
    text_addf(out, "c%s\n%s\n", module, name);
}

static inline void pickle_put_int(Text *out, int64_t number) {
    text_add(out, "\x8a\x08", 2);
    put_number(out, (uint64_t)number, 8);
}

static inline void pickle_put_axis(Text *out, int dims, const int64_t *items) {
    text_add(out, "(", 1);
    for (int i = 0; i < dims; i++) pickle_put_int(out, items[i]);
    text_add(out, "t", 1);
}

typedef struct TensorSpec {
    const char *storage; /* "FloatStorage" */
    const char *key;
    int64_t count, offset;
    int dims;
    int64_t shape[10], stride[10];
} TensorSpec;

static inline void pickle_put_tensor(Text *out, const TensorSpec *spec) {
    pickle_put_global(out, "torch._utils", "_rebuild_tensor_v2");
    text_add_string(out, "((");
    pickle_put_text(out, BYTES("storage"));
    pickle_put_global(out, "torch", spec->storage);
    pickle_put_text(out, spec->key, strlen(spec->key));
    pickle_put_text(out, BYTES("cpu"));
    pickle_put_int(out, spec->count);
    text_add_string(out, "tQ");
    pickle_put_int(out, spec->offset);
    pickle_put_axis(out, spec->dims, spec->shape);
    pickle_put_axis(out, spec->dims, spec->stride);
    text_add(out, "\x89", 1);
    pickle_put_global(out, "collections", "OrderedDict");
    text_add_string(out, ")RtR");
}

/* {"w": tensor}, whole. */
static inline Text pickle_of_tensor(const TensorSpec *spec) {
    Text out = {0};
    text_add_string(&out, "\x80\x02}");
    pickle_put_text(&out, BYTES("w"));
    pickle_put_tensor(&out, spec);
    text_add_string(&out, "s.");
    return out;
}

#endif
