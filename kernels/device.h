/* A device: memory, an ordered stream of operations, scratch and the math threads. */
#ifndef SEMOLLM_KERNELS_DEVICE_H
#define SEMOLLM_KERNELS_DEVICE_H

#include <stddef.h>

#include "base/error.h"
#include "kernels/tensor.h"

typedef enum DeviceKind { DEVICE_CPU, DEVICE_CUDA } DeviceKind;

typedef struct Device Device;

/* To be called first in main: idle math threads are to sleep, not to spin, unless OMP_WAIT_POLICY is
 * set. (On a core that others use too, spinning makes small operations a hundred times slower.) OpenMP
 * reads its settings when it is loaded, so the program starts itself anew with the variable set. */
void device_calm_idle_threads(char **argv);

/* `threads` <= 0: one per core this process may run on. Where the build has no CUDA device, asking
 * for it is an error that says so. */
Device *device_open(DeviceKind kind, int threads, Error *err);

/* GPU number `index`; activations and frozen weights are stored as `dtype`: BF16, or F32 to debug with.
 * device_open's is number 0 with BF16. */
Device *device_open_cuda(int index, DType dtype, Error *err);

/* How many GPUs there are to open. Where there is none, the error says why. */
int device_cuda_count(Error *err);

void device_close(Device *dev);

DeviceKind device_kind(const Device *dev);
const char *device_name(const Device *dev); /* what a GPU calls itself; "CPU" */
DType device_dtype(const Device *dev);      /* what activations and frozen weights are stored as: F32 on the CPU */

/* How many elements of a large activation are best made at a time, where it need not all be there at once: few enough
 * to stay small, enough that what each chunk reads anew does not count and a GPU is kept busy. */
int64_t device_chunk(const Device *dev);

/* How many sequences generation is best given at a time: a GPU's steps take hardly longer for many. */
int device_sequences(const Device *dev);

/* How many tokens of prompts go through all weights together: enough that reading those does not count. */
int64_t device_prefill(const Device *dev);

/* What generation's caches may take of memory: of a GPU's half of what is free, within reason. */
size_t device_cache_bytes(Device *dev);

/* 256-byte aligned, zeroed. */
void *device_alloc(Device *dev, size_t bytes, Error *err);
void device_free(Device *dev, void *memory);

bool device_upload(Device *dev, void *to, const void *from_host, size_t bytes, Error *err);
bool device_download(Device *dev, void *to_host, const void *from, size_t bytes, Error *err); /* waits */
bool device_fill_zero(Device *dev, void *memory, size_t bytes, Error *err);
bool device_wait(Device *dev, Error *err);

/* What the device can still give and what it has in all; the CPU's is the machine's. */
bool device_memory_info(Device *dev, size_t *free_bytes, size_t *total_bytes, Error *err);

/* A stretch of operations recorded to be run again with one call, where launching each would take longer than
 * it does (decoding). Between begin and end they are not run, and nothing may be uploaded, downloaded, allocated
 * or waited for; replays read what then lies at the same addresses. A recording that went wrong is ended, too.
 * The CPU device records nothing: there operations are simply called. */
typedef struct DeviceGraph DeviceGraph;
bool device_records(const Device *dev);
bool device_capture_begin(Device *dev, Error *err);
DeviceGraph *device_capture_end(Device *dev, Error *err);
bool device_replay(Device *dev, DeviceGraph *graph, Error *err);
void device_graph_free(Device *dev, DeviceGraph *graph);

/* The matrix product algorithms chosen so far, as JSON; free() it. A run that goes on with the table of its
 * checkpoint takes the same steps. `fits`: whether the table is of such a GPU and library; else it is left. */
char *device_algorithms(const Device *dev, Error *err);
bool device_use_algorithms(Device *dev, const char *json, bool *fits, Error *err);

/* Scratch is one buffer per device, shared by the ops because they run in order. Reserving belongs
 * to planning: it grows to the largest NAME_scratch(args) asked for. An op that needs more than was
 * reserved fails. */
bool device_reserve_scratch(Device *dev, size_t bytes, Error *err);

#endif
