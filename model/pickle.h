/* A reader of the pickles that torch.save writes, and of nothing else: tensors, their storages and
 * plain containers. A pickle is a program; this machine knows no call but the few below, so a file
 * that asks for any other is refused by name and nothing of it runs.
 *
 *     collections.OrderedDict()                     torch._utils._rebuild_tensor_v2(...)
 *     torch.FloatStorage, torch.HalfStorage, ...    torch._utils._rebuild_parameter(...)
 */
#ifndef SEMOLLM_MODEL_PICKLE_H
#define SEMOLLM_MODEL_PICKLE_H

#include "base/base.h"

enum { PICKLE_DIMS_MAX = 8, PICKLE_LIMIT = 16 << 20 /* bytes of one pickle */ };

typedef enum PickleKind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT,
    PICKLE_TEXT,
    PICKLE_BYTES,
    PICKLE_HUGE, /* an integer of more than 64 bits; its value is dropped */
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,
    PICKLE_GLOBAL,
    PICKLE_STORAGE,
    PICKLE_TENSOR,
    PICKLE_MARK /* the machine's own */
} PickleKind;

typedef struct PickleValue PickleValue;
typedef struct PickleGlobal PickleGlobal;

typedef struct PickleStorage {
    DType dtype;
    const char *key; /* of the storage's data in the file */
    int64_t count;   /* elements */
} PickleStorage;

typedef struct PickleTensor {
    const PickleStorage *storage;
    int64_t offset; /* all in elements, and not yet held against the storage's count */
    int dims;
    int64_t shape[PICKLE_DIMS_MAX], stride[PICKLE_DIMS_MAX];
} PickleTensor;

struct PickleValue {
    PickleKind kind;
    union {
        bool truth;
        int64_t integer;
        double number;
        struct {
            const char *bytes; /* null-terminated copy */
            size_t length;
        } text;
        struct {
            PickleValue **items; /* a dict's are key, value, key, value, ... */
            size_t count, capacity;
        } list;
        const PickleGlobal *global;
        PickleStorage *storage;
        PickleTensor *tensor;
    } as;
};

typedef struct Pickle {
    const PickleValue *root;
    void *blocks; /* all memory of the values */
} Pickle;

/* Reads one pickle from the front of `data`; *used gets its length. `name` is for errors. The values
 * are good until pickle_free and may refer to each other in any way, in circles too. */
bool pickle_read(Pickle *pickle, const void *data, size_t size, const char *name, size_t *used, Error *err);
void pickle_free(Pickle *pickle);

/* The value of a text key, the last if there are several; null if there is none. */
const PickleValue *pickle_get(const PickleValue *dict, const char *key);

/* A text without NUL characters, or null. */
const char *pickle_text(const PickleValue *value);

#endif
