#include "train/tensorboard.h"

#include <string.h>

enum { RECORD_MAX = 512 };

/* A protocol buffer in the making. */
typedef struct Proto {
    unsigned char bytes[RECORD_MAX];
    size_t size;
} Proto;

uint32_t crc32c(const void *data, size_t size) {
    uint32_t crc = 0xFFFFFFFFu;
    for (const unsigned char *byte = data, *end = byte + size; byte < end; byte++) {
        crc ^= *byte;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0x82F63B78u & (0u - (crc & 1)));
    }
    return ~crc;
}

static uint32_t masked_crc(const void *data, size_t size) {
    uint32_t crc = crc32c(data, size);
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

static void put_bytes(Proto *proto, const void *bytes, size_t size) {
    if (size > RECORD_MAX - proto->size) size = RECORD_MAX - proto->size; /* tags are ours and short */
    memcpy(proto->bytes + proto->size, bytes, size);
    proto->size += size;
}

static void put_varint(Proto *proto, uint64_t value) {
    do {
        unsigned char byte = (unsigned char)((value & 0x7F) | (value > 0x7F ? 0x80 : 0));
        put_bytes(proto, &byte, 1);
    } while (value >>= 7);
}

static void put_block(Proto *proto, unsigned field, const void *bytes, size_t size) {
    put_varint(proto, field << 3 | 2);
    put_varint(proto, size);
    put_bytes(proto, bytes, size);
}

static void put_double(Proto *proto, unsigned field, double value) {
    put_varint(proto, field << 3 | 1);
    put_bytes(proto, &value, sizeof value);
}

static bool write_record(FILE *file, const Proto *event, Error *err) {
    uint64_t size = event->size;
    uint32_t size_crc = masked_crc(&size, sizeof size), crc = masked_crc(event->bytes, event->size);
    bool ok = fwrite(&size, sizeof size, 1, file) == 1 && fwrite(&size_crc, sizeof size_crc, 1, file) == 1 &&
              fwrite(event->bytes, 1, event->size, file) == event->size && fwrite(&crc, sizeof crc, 1, file) == 1;
    return ok || fail(err, "TensorBoard events cannot be written: the disk may be full");
}

bool events_begin(FILE *file, double wall_time, Error *err) {
    static const char VERSION[] = "brain.Event:2";
    Proto event = {.size = 0};
    put_double(&event, 1, wall_time);
    put_block(&event, 3, VERSION, sizeof VERSION - 1);
    return write_record(file, &event, err);
}

bool events_scalar(FILE *file, double wall_time, int64_t step, const char *tag, float value, Error *err) {
    Proto point = {.size = 0}, summary = {.size = 0}, event = {.size = 0};
    put_block(&point, 1, tag, strlen(tag));
    put_varint(&point, 2 << 3 | 5);
    put_bytes(&point, &value, sizeof value);
    put_block(&summary, 1, point.bytes, point.size);
    put_double(&event, 1, wall_time);
    put_varint(&event, 2 << 3);
    put_varint(&event, (uint64_t)step);
    put_block(&event, 5, summary.bytes, summary.size);
    return write_record(file, &event, err);
}
