#include "train/log.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "train/tensorboard.h"

static const char LINES[] = "log.jsonl";
static const char EVENTS[] = "events.out.tfevents.0.semollm";

static double wall_time(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static FILE *open_cut(const char *folder, const char *name, int64_t keep, Error *err) {
    char *path = path_join(folder, name, err);
    if (!path) return NULL;
    FILE *file = fopen(path, "ab");
    if (!file)
        fail(err, "%s: cannot be opened: %s", path, strerror(errno));
    else if (fseek(file, 0, SEEK_END) == 0 && ftell(file) > keep && ftruncate(fileno(file), keep) != 0) {
        fail(err, "%s: cannot be cut back to the checkpoint: %s", path, strerror(errno));
        fclose(file);
        file = NULL;
    }
    free(path);
    return file;
}

bool log_open(RunLog *log, const char *run_folder, int64_t line_bytes, int64_t event_bytes, Error *err) {
    *log = (RunLog){0};
    log->lines = open_cut(run_folder, LINES, line_bytes, err);
    log->events = log->lines ? open_cut(run_folder, EVENTS, event_bytes, err) : NULL;
    if (log->events && (event_bytes > 0 || events_begin(log->events, wall_time(), err))) return true;
    log_close(log);
    return false;
}

void log_close(RunLog *log) {
    if (log->lines) fclose(log->lines);
    if (log->events) fclose(log->events);
    *log = (RunLog){0};
}

/* JSON has no NaN. */
static const char *number(double value, char text[32]) {
    if (isfinite(value))
        snprintf(text, 32, "%.17g", value);
    else
        strcpy(text, "null");
    return text;
}

static bool flush(RunLog *log, Error *err) {
    if (fflush(log->lines) == 0 && !ferror(log->lines)) return true;
    return fail(err, "%s cannot be written: %s", LINES, errno ? strerror(errno) : "write error");
}

bool log_step(RunLog *log, const StepRecord *record, Error *err) {
    char loss[32], norm[32];
    fprintf(log->lines,
            "{\"step\": %" PRId64
            ", \"epoch\": %.6g, \"loss\": %s, \"lr\": %.9g, \"grad_norm\": %s, \"clips\": %" PRId64
            ", \"tokens\": %" PRId64 ", \"responses\": %" PRId64 ", \"seconds\": %.3f%s}\n",
            record->step, record->epoch, number(record->loss, loss), record->lr, number(record->grad_norm, norm),
            record->clips, record->tokens, record->responses, record->seconds,
            record->skipped ? ", \"skipped\": true" : "");
    double now = wall_time();
    return flush(log, err) && events_scalar(log->events, now, record->step, "train/loss", (float)record->loss, err) &&
           events_scalar(log->events, now, record->step, "train/lr", (float)record->lr, err) &&
           events_scalar(log->events, now, record->step, "train/grad_norm", (float)record->grad_norm, err);
}

bool log_validation(RunLog *log, int64_t step, double loss, Error *err) {
    char text[32];
    fprintf(log->lines, "{\"step\": %" PRId64 ", \"validation_loss\": %s}\n", step, number(loss, text));
    return flush(log, err) && events_scalar(log->events, wall_time(), step, "validation/loss", (float)loss, err);
}

static bool sync_file(FILE *file, int64_t *bytes, const char *name, Error *err) {
    if (fflush(file) != 0 || fsync(fileno(file)) != 0 || fseek(file, 0, SEEK_END) != 0)
        return fail(err, "%s cannot be written: %s", name, strerror(errno));
    *bytes = ftell(file);
    return true;
}

bool log_sync(RunLog *log, int64_t *line_bytes, int64_t *event_bytes, Error *err) {
    return sync_file(log->lines, line_bytes, LINES, err) && sync_file(log->events, event_bytes, EVENTS, err);
}
