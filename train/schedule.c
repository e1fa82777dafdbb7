#include "train/schedule.h"

#include <math.h>

double schedule_factor(Schedule schedule, int64_t step, int64_t warmup, int64_t total) {
    if (step <= warmup) return (double)step / (double)warmup;
    if (schedule == SCHEDULE_CONSTANT) return 1;
    double done = (double)(step - 1 - warmup) / (double)(total > warmup ? total - warmup : 1);
    if (done > 1) done = 1;
    return schedule == SCHEDULE_LINEAR ? 1 - done : 0.5 * (1 + cos(3.14159265358979323846 * done));
}
