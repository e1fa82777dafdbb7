/* What a run writes as it goes: log.jsonl, an object a line, and TensorBoard's events. A resumed run cuts
 * both back to its checkpoint, so that no step stands there twice. */
#ifndef SEMOLLM_TRAIN_LOG_H
#define SEMOLLM_TRAIN_LOG_H

#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

typedef struct RunLog {
    FILE *lines, *events;
} RunLog;

/* Keeps the first bytes of each file; 0 begins anew. */
bool log_open(RunLog *log, const char *run_folder, int64_t line_bytes, int64_t event_bytes, Error *err);
void log_close(RunLog *log);

typedef struct StepRecord {
    int64_t step, clips, tokens, responses;
    double epoch, loss, lr, grad_norm, seconds;
    bool skipped;
} StepRecord;

bool log_step(RunLog *log, const StepRecord *record, Error *err);
bool log_validation(RunLog *log, int64_t step, double loss, Error *err);

/* Everything so far onto the disk, and how long the files then are. */
bool log_sync(RunLog *log, int64_t *line_bytes, int64_t *event_bytes, Error *err);

#endif
