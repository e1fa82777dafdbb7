/* TensorBoard's event files: TFRecords of Event protocol buffers, scalars only. */
#ifndef SEMOLLM_TRAIN_TENSORBOARD_H
#define SEMOLLM_TRAIN_TENSORBOARD_H

#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

/* The file's first record. */
bool events_begin(FILE *file, double wall_time, Error *err);
bool events_scalar(FILE *file, double wall_time, int64_t step, const char *tag, float value, Error *err);

/* CRC-32C (Castagnoli), as TFRecord masks it. */
uint32_t crc32c(const void *data, size_t size);

#endif
