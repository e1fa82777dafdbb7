#include "model/zip.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Names of sizes and offsets are those of PKWARE's APPNOTE.TXT. */
enum {
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR_BYTES = 20,
    CENTRAL_BYTES = 46,
    LOCAL_BYTES = 30,
    COMMENT_MAX = 65535,
    EXTRA_ZIP64 = 1,
    ENTRIES_MAX = 1 << 20,
    FLAG_ENCRYPTED = 1,
};

static const uint32_t END_MAGIC = 0x06054b50, END64_MAGIC = 0x06064b50, LOCATOR_MAGIC = 0x07064b50,
                      CENTRAL_MAGIC = 0x02014b50, LOCAL_MAGIC = 0x04034b50;

static uint64_t number_at(const unsigned char *bytes, int count) {
    uint64_t number = 0;
    for (int i = count; i-- > 0;) number = number << 8 | bytes[i];
    return number;
}

static uint16_t u16(const unsigned char *bytes) { return (uint16_t)number_at(bytes, 2); }
static uint32_t u32(const unsigned char *bytes) { return (uint32_t)number_at(bytes, 4); }
static uint64_t u64(const unsigned char *bytes) { return number_at(bytes, 8); }

/* Bytes `offset` to `offset + count` of the file, or null where it does not hold them. */
static const unsigned char *part(const FileMap *map, uint64_t offset, uint64_t count) {
    if (offset > map->size || count > map->size - offset) return NULL;
    return map->data + offset;
}

bool zip_is(const FileMap *map) { return map->size >= LOCAL_BYTES && u32(map->data) == LOCAL_MAGIC; }

/* ---- the directory ---- */

typedef struct Directory {
    uint64_t offset, size, count;
} Directory;

static const unsigned char *find_end(const FileMap *map) {
    size_t furthest = map->size > END_BYTES + COMMENT_MAX ? map->size - END_BYTES - COMMENT_MAX : 0;
    for (size_t at = map->size < END_BYTES ? 0 : map->size - END_BYTES + 1; at-- > furthest;) {
        const unsigned char *end = map->data + at;
        if (u32(end) == END_MAGIC && u16(end + 20) == map->size - at - END_BYTES) return end;
    }
    return NULL;
}

static bool find_directory(const Zip *zip, Directory *directory, Error *err) {
    const unsigned char *end = find_end(&zip->map);
    if (!end)
        return fail(err, "%s: the zip archive's directory is not at its end: the file is damaged or cut short",
                    zip->path);
    *directory = (Directory){.count = u16(end + 10), .size = u32(end + 12), .offset = u32(end + 16)};
    uint64_t place = (uint64_t)(end - zip->map.data);
    const unsigned char *locator = place >= LOCATOR_BYTES ? end - LOCATOR_BYTES : NULL;
    if (!locator || u32(locator) != LOCATOR_MAGIC) return true;
    const unsigned char *end64 = part(&zip->map, u64(locator + 8), END64_BYTES);
    if (!end64 || u32(end64) != END64_MAGIC)
        return fail(err, "%s: the zip archive's 64-bit directory end is not where it should be: damaged", zip->path);
    *directory = (Directory){.count = u64(end64 + 32), .size = u64(end64 + 40), .offset = u64(end64 + 48)};
    return true;
}

/* Sizes and offsets that did not fit in 32 bits stand in this field, in this order. */
static bool read_zip64(ZipEntry *entry, const unsigned char *extra, size_t size) {
    uint64_t compressed = entry->size;
    uint64_t *wide[3] = {entry->size == UINT32_MAX ? &entry->size : NULL, compressed == UINT32_MAX ? &compressed : NULL,
                         entry->header == UINT32_MAX ? &entry->header : NULL};
    for (size_t at = 0; at + 4 <= size;) {
        unsigned id = u16(extra + at);
        size_t length = u16(extra + at + 2), used = 0;
        at += 4;
        if (length > size - at) return false;
        for (int i = 0; id == EXTRA_ZIP64 && i < 3; i++) {
            if (!wide[i] || used + 8 > length) continue;
            *wide[i] = u64(extra + at + used);
            used += 8;
        }
        at += length;
    }
    return true;
}

/* One record of the directory; *at moves over it. */
static bool read_record(Zip *zip, const Directory *directory, uint64_t *at, Error *err) {
    const unsigned char *end = zip->map.data + directory->offset + directory->size;
    const unsigned char *record = zip->map.data + directory->offset + *at;
    size_t room = (size_t)(end - record);
    if (room < CENTRAL_BYTES || u32(record) != CENTRAL_MAGIC)
        return fail(err, "%s: record %zu of the zip archive's directory is damaged", zip->path, zip->count);
    size_t name = u16(record + 28), extra = u16(record + 30), comment = u16(record + 32);
    if (name + extra + comment > room - CENTRAL_BYTES)
        return fail(err, "%s: record %zu of the zip archive's directory is cut short", zip->path, zip->count);
    if (memchr(record + CENTRAL_BYTES, 0, name))
        return fail(err, "%s: record %zu of the zip archive's directory has a NUL in its name", zip->path, zip->count);
    if (!memory_grow(&zip->entries, zip->count, &zip->capacity, sizeof *zip->entries, err)) return false;
    ZipEntry entry = {.flags = u16(record + 8),
                      .method = u16(record + 10),
                      .checksum = u32(record + 16),
                      .size = u32(record + 24),
                      .header = u32(record + 42)};
    if (!read_zip64(&entry, record + CENTRAL_BYTES + name, extra))
        return fail(err, "%s: record %zu of the zip archive's directory has a damaged extra field", zip->path,
                    zip->count);
    entry.name = text_format(err, "%.*s", (int)name, (const char *)record + CENTRAL_BYTES);
    if (!entry.name) return false;
    zip->entries[zip->count++] = entry;
    *at += CENTRAL_BYTES + name + extra + comment;
    return true;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const ZipEntry *)a)->name, ((const ZipEntry *)b)->name);
}

static bool read_directory(Zip *zip, Error *err) {
    Directory directory = {0};
    if (!find_directory(zip, &directory, err)) return false;
    if (!part(&zip->map, directory.offset, directory.size) || directory.count > ENTRIES_MAX)
        return fail(err, "%s: the zip archive's directory lies outside the file: it is damaged", zip->path);
    uint64_t at = 0;
    for (uint64_t i = 0; i < directory.count; i++)
        if (!read_record(zip, &directory, &at, err)) return false;
    if (zip->count) qsort(zip->entries, zip->count, sizeof *zip->entries, by_name);
    for (size_t i = 1; i < zip->count; i++)
        if (!strcmp(zip->entries[i - 1].name, zip->entries[i].name))
            return fail(err, "%s: the zip archive holds \"%.200s\" twice", zip->path, zip->entries[i].name);
    return true;
}

bool zip_open(Zip *zip, FileMap map, const char *path, Error *err) {
    *zip = (Zip){.path = path, .map = map};
    if (read_directory(zip, err)) return true;
    zip_close(zip);
    return false;
}

void zip_close(Zip *zip) {
    for (size_t i = 0; i < zip->count; i++) free(zip->entries[i].name);
    free(zip->entries);
    file_unmap(&zip->map);
    *zip = (Zip){0};
}

ZipEntry *zip_find(const Zip *zip, const char *name) {
    ZipEntry key = {.name = (char *)(uintptr_t)name};
    return zip->count ? bsearch(&key, zip->entries, zip->count, sizeof key, by_name) : NULL;
}

/* ---- an entry's bytes ---- */

/* CRC-32 as zip has it (reflected, polynomial 0xEDB88320), eight bytes at a time. */
static uint32_t crc32_of(const unsigned char *data, size_t size) {
    uint32_t table[8][256];
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
        table[0][i] = value;
    }
    for (int t = 1; t < 8; t++)
        for (int i = 0; i < 256; i++) table[t][i] = table[t - 1][i] >> 8 ^ table[0][table[t - 1][i] & 0xff];
    uint32_t crc = UINT32_MAX;
    for (; size >= 8; size -= 8, data += 8) {
        uint32_t low = crc ^ u32(data), high = u32(data + 4);
        crc = table[7][low & 0xff] ^ table[6][low >> 8 & 0xff] ^ table[5][low >> 16 & 0xff] ^ table[4][low >> 24] ^
              table[3][high & 0xff] ^ table[2][high >> 8 & 0xff] ^ table[1][high >> 16 & 0xff] ^ table[0][high >> 24];
    }
    for (; size > 0; size--) crc = crc >> 8 ^ table[0][(crc ^ *data++) & 0xff];
    return ~crc;
}

bool zip_open_entry(const Zip *zip, ZipEntry *entry, Error *err) {
    if (entry->data) return true;
    if (entry->method != 0 || entry->flags & FLAG_ENCRYPTED)
        return fail(err,
                    "%s: \"%.200s\" is compressed or encrypted, as torch.save never does: pack the archive anew "
                    "without compression",
                    zip->path, entry->name);
    const unsigned char *local = part(&zip->map, entry->header, LOCAL_BYTES);
    if (!local || u32(local) != LOCAL_MAGIC)
        return fail(err, "%s: \"%.200s\" is not where the archive's directory says: the file is damaged", zip->path,
                    entry->name);
    uint64_t start = entry->header + LOCAL_BYTES + u16(local + 26) + u16(local + 28);
    const unsigned char *data = part(&zip->map, start, entry->size);
    if (!data)
        return fail(err, "%s: \"%.200s\" runs over the end of the file: it is damaged or cut short", zip->path,
                    entry->name);
    if (crc32_of(data, (size_t)entry->size) != entry->checksum)
        return fail(err, "%s: \"%.200s\" does not match its checksum: the file is damaged, fetch it again", zip->path,
                    entry->name);
    entry->data = data;
    return true;
}
