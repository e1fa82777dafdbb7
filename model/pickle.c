#include "model/pickle.h"

#include <stdlib.h>
#include <string.h>

enum { PROTOCOL_MAX = 5, BLOCK_BYTES = 1 << 16, STORAGE_ID_ITEMS = 5, TENSOR_ITEMS = 6 };

typedef enum GlobalKind { GLOBAL_DICT, GLOBAL_TENSOR, GLOBAL_PARAMETER, GLOBAL_STORAGE } GlobalKind;

struct PickleGlobal {
    const char *module, *name;
    GlobalKind kind;
    DType dtype; /* of a storage */
};

/* All that a pickle may ask for. */
static const PickleGlobal GLOBALS[] = {
    {"collections", "OrderedDict", GLOBAL_DICT, DTYPE_U8},
    {"torch._utils", "_rebuild_tensor_v2", GLOBAL_TENSOR, DTYPE_U8},
    {"torch._utils", "_rebuild_parameter", GLOBAL_PARAMETER, DTYPE_U8},
    {"torch", "FloatStorage", GLOBAL_STORAGE, DTYPE_F32},
    {"torch", "HalfStorage", GLOBAL_STORAGE, DTYPE_F16},
    {"torch", "BFloat16Storage", GLOBAL_STORAGE, DTYPE_BF16},
    {"torch", "DoubleStorage", GLOBAL_STORAGE, DTYPE_F64},
    {"torch", "LongStorage", GLOBAL_STORAGE, DTYPE_I64},
    {"torch", "IntStorage", GLOBAL_STORAGE, DTYPE_I32},
    {"torch", "ByteStorage", GLOBAL_STORAGE, DTYPE_U8},
    {"torch", "BoolStorage", GLOBAL_STORAGE, DTYPE_U8},
};

typedef struct Block {
    struct Block *next;
    size_t used, size;
    _Alignas(16) char memory[];
} Block;

typedef struct Machine {
    Block *blocks;
    const unsigned char *data;
    size_t size, at; /* `at`: of the byte to read next */
    size_t opcode;   /* where the opcode being run stands */
    PickleValue **stack, **memo;
    size_t depth, stack_capacity, memo_size, memo_count;
    const char *name;
    Error *err;
} Machine;

#define REFUSE(m, ...) refuse(m, text_format((m)->err, __VA_ARGS__))

/* Takes the reason over; returns false. */
static bool refuse(Machine *m, char *reason) {
    if (reason) fail(m->err, "%s: byte %zu of the pickle: %s", m->name, m->opcode, reason);
    free(reason);
    return false;
}

/* ---- memory ---- */

static void *take(Machine *m, size_t bytes) {
    bytes = (bytes + 15) / 16 * 16;
    if (!m->blocks || m->blocks->size - m->blocks->used < bytes) {
        size_t size = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
        Block *block = memory_new(1, sizeof *block + size, m->err);
        if (!block) return NULL;
        *block = (Block){.next = m->blocks, .size = size};
        m->blocks = block;
    }
    void *memory = m->blocks->memory + m->blocks->used;
    m->blocks->used += bytes;
    return memory;
}

static PickleValue *new_value(Machine *m, PickleKind kind) {
    PickleValue *value = take(m, sizeof *value);
    if (value) *value = (PickleValue){.kind = kind};
    return value;
}

static bool add_item(Machine *m, PickleValue *list, PickleValue *item) {
    if (list->as.list.count == list->as.list.capacity) {
        size_t capacity = list->as.list.capacity ? 2 * list->as.list.capacity : 4;
        PickleValue **items = take(m, capacity * sizeof *items);
        if (!items) return false;
        if (list->as.list.count) memcpy(items, list->as.list.items, list->as.list.count * sizeof *items);
        list->as.list.items = items;
        list->as.list.capacity = capacity;
    }
    list->as.list.items[list->as.list.count++] = item;
    return true;
}

/* ---- reading ---- */

static bool bytes_left(Machine *m, size_t count, const unsigned char **bytes) {
    if (count > m->size - m->at)
        return REFUSE(m, "it wants %zu bytes where %zu are left: the file is damaged or cut short", count,
                      m->size - m->at);
    *bytes = m->data + m->at;
    m->at += count;
    return true;
}

static bool read_number(Machine *m, size_t count, uint64_t *number) {
    const unsigned char *bytes;
    if (!bytes_left(m, count, &bytes)) return false;
    *number = 0;
    for (size_t i = count; i-- > 0;) *number = *number << 8 | bytes[i];
    return true;
}

/* A line of a text opcode, without its end. */
static bool read_line(Machine *m, const char **line, size_t *length) {
    const unsigned char *start = m->data + m->at, *end = memchr(start, '\n', m->size - m->at);
    if (!end) return REFUSE(m, "a line has no end: the file is damaged or cut short");
    *line = (const char *)start;
    *length = (size_t)(end - start);
    m->at += *length + 1;
    return true;
}

/* ---- the stack ---- */

static bool push(Machine *m, PickleValue *value) {
    if (!value || !memory_grow(&m->stack, m->depth, &m->stack_capacity, sizeof(PickleValue *), m->err)) return false;
    m->stack[m->depth++] = value;
    return true;
}

static bool pop(Machine *m, PickleValue **value) {
    if (m->depth == 0) return REFUSE(m, "the stack is empty: the file is damaged");
    *value = m->stack[--m->depth];
    return true;
}

static bool top(Machine *m, PickleKind kind, const char *what, PickleValue **value) {
    if (m->depth == 0 || m->stack[m->depth - 1]->kind != kind)
        return REFUSE(m, "%s is expected on the stack: the file is damaged, or no tensor file", what);
    *value = m->stack[m->depth - 1];
    return true;
}

/* The index of the first value over the last mark. */
static bool find_mark(Machine *m, size_t *first) {
    for (*first = m->depth; *first > 0; --*first)
        if (m->stack[*first - 1]->kind == PICKLE_MARK) return true;
    return REFUSE(m, "there is no mark on the stack: the file is damaged");
}

static bool push_number(Machine *m, int64_t number) {
    PickleValue *value = new_value(m, PICKLE_INT);
    if (value) value->as.integer = number;
    return push(m, value);
}

static bool push_truth(Machine *m, bool truth) {
    PickleValue *value = new_value(m, PICKLE_BOOL);
    if (value) value->as.truth = truth;
    return push(m, value);
}

static bool push_float(Machine *m) {
    const unsigned char *bytes;
    if (!bytes_left(m, 8, &bytes)) return false;
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) bits = bits << 8 | bytes[i];
    PickleValue *value = new_value(m, PICKLE_FLOAT);
    if (value) memcpy(&value->as.number, &bits, sizeof bits);
    return push(m, value);
}

/* Two's complement of any length. */
static bool push_long(Machine *m, size_t length_bytes) {
    uint64_t length;
    const unsigned char *bytes;
    if (!read_number(m, length_bytes, &length) || !bytes_left(m, (size_t)length, &bytes)) return false;
    if (length > 8) return push(m, new_value(m, PICKLE_HUGE));
    uint64_t number = length && bytes[length - 1] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = (size_t)length; i-- > 0;) number = number << 8 | bytes[i];
    return push_number(m, (int64_t)number);
}

static bool push_text(Machine *m, PickleKind kind, size_t length_bytes) {
    uint64_t length;
    const unsigned char *bytes;
    if (!read_number(m, length_bytes, &length) || !bytes_left(m, (size_t)length, &bytes)) return false;
    PickleValue *value = new_value(m, kind);
    char *copy = value ? take(m, (size_t)length + 1) : NULL;
    if (!copy) return false;
    memcpy(copy, bytes, (size_t)length);
    copy[length] = '\0';
    value->as.text.bytes = copy;
    value->as.text.length = (size_t)length;
    return push(m, value);
}

/* ---- containers ---- */

/* Replaces the values from `first` on, and the mark under them, by a container of them. */
static bool gather(Machine *m, PickleKind kind, size_t first, bool marked) {
    PickleValue *list = new_value(m, kind);
    if (!list) return false;
    if (kind == PICKLE_DICT && (m->depth - first) % 2 != 0) return REFUSE(m, "a dict has a key without a value");
    for (size_t i = first; i < m->depth; i++)
        if (!add_item(m, list, m->stack[i])) return false;
    m->depth = first - (marked ? 1 : 0);
    return push(m, list);
}

static bool gather_marked(Machine *m, PickleKind kind) {
    size_t first;
    return find_mark(m, &first) && gather(m, kind, first, true);
}

static bool gather_last(Machine *m, size_t count) {
    if (m->depth < count) return REFUSE(m, "the stack is empty: the file is damaged");
    return gather(m, PICKLE_TUPLE, m->depth - count, false);
}

/* Moves the values from `first` on into the container under them (and under a mark). */
static bool add_to(Machine *m, PickleKind kind, size_t first, bool marked) {
    size_t under = first - (marked ? 1 : 0), last = m->depth;
    PickleValue *list;
    m->depth = under;
    if (!top(m, kind, kind == PICKLE_DICT ? "a dict" : "a list", &list)) return false;
    if (kind == PICKLE_DICT && (last - first) % 2 != 0) return REFUSE(m, "a dict has a key without a value");
    for (size_t i = first; i < last; i++)
        if (!add_item(m, list, m->stack[i])) return false;
    return true;
}

static bool add_marked(Machine *m, PickleKind kind) {
    size_t first;
    return find_mark(m, &first) && add_to(m, kind, first, true);
}

static bool add_last(Machine *m, PickleKind kind, size_t count) {
    if (m->depth < count) return REFUSE(m, "the stack is empty: the file is damaged");
    return add_to(m, kind, m->depth - count, false);
}

/* ---- the memo ---- */

static bool memo_put(Machine *m, uint64_t index) {
    if (index > m->size) return REFUSE(m, "memo index %llu is absurd: refused", (unsigned long long)index);
    if (m->depth == 0) return REFUSE(m, "the stack is empty: the file is damaged");
    size_t capacity = m->memo_size ? m->memo_size : 64;
    while (capacity <= index) capacity *= 2;
    if (capacity > m->memo_size) {
        PickleValue **memo = realloc(m->memo, capacity * sizeof *memo);
        if (!memo) return REFUSE(m, "out of memory");
        memset(memo + m->memo_size, 0, (capacity - m->memo_size) * sizeof *memo);
        m->memo = memo;
        m->memo_size = capacity;
    }
    if (!m->memo[index]) m->memo_count++;
    m->memo[index] = m->stack[m->depth - 1];
    return true;
}

static bool memo_put_read(Machine *m, size_t index_bytes) {
    uint64_t index;
    return read_number(m, index_bytes, &index) && memo_put(m, index);
}

static bool memo_get(Machine *m, size_t index_bytes) {
    uint64_t index;
    if (!read_number(m, index_bytes, &index)) return false;
    if (index >= m->memo_size || !m->memo[index])
        return REFUSE(m, "nothing is in the memo at %llu: the file is damaged", (unsigned long long)index);
    return push(m, m->memo[index]);
}

/* ---- globals and calls ---- */

static void print_plainly(char *out, size_t size, const char *text, size_t length) {
    size_t count = length < size - 1 ? length : size - 1;
    for (size_t i = 0; i < count; i++) out[i] = (char)(text[i] > ' ' && text[i] < 127 ? text[i] : '?');
    out[count] = '\0';
}

static bool push_global(Machine *m, const char *module, size_t module_length, const char *name, size_t name_length) {
    for (size_t i = 0; i < sizeof GLOBALS / sizeof *GLOBALS; i++) {
        const PickleGlobal *global = &GLOBALS[i];
        if (strlen(global->module) != module_length || memcmp(global->module, module, module_length) != 0) continue;
        if (strlen(global->name) != name_length || memcmp(global->name, name, name_length) != 0) continue;
        PickleValue *value = new_value(m, PICKLE_GLOBAL);
        if (value) value->as.global = global;
        return push(m, value);
    }
    char from[100], what[100];
    print_plainly(from, sizeof from, module, module_length);
    print_plainly(what, sizeof what, name, name_length);
    return REFUSE(m,
                  "the pickle asks for %s.%s: refused, this file would run code; only tensors in plain dicts and "
                  "lists are read",
                  from, what);
}

static bool global_lines(Machine *m) {
    const char *module, *name;
    size_t module_length, name_length;
    return read_line(m, &module, &module_length) && read_line(m, &name, &name_length) &&
           push_global(m, module, module_length, name, name_length);
}

static bool global_stacked(Machine *m) {
    PickleValue *name, *module;
    if (!pop(m, &name) || !pop(m, &module)) return false;
    if (name->kind != PICKLE_TEXT || module->kind != PICKLE_TEXT)
        return REFUSE(m, "a global's name is no text: the file is damaged");
    return push_global(m, module->as.text.bytes, module->as.text.length, name->as.text.bytes, name->as.text.length);
}

/* INST, which calls a global at once: nothing that may be called is ever written so. */
static bool refuse_inst(Machine *m) {
    if (!global_lines(m)) return false;
    const PickleGlobal *global = m->stack[m->depth - 1]->as.global;
    return REFUSE(m, "the pickle makes an object of %s.%s, which torch.save never does: refused", global->module,
                  global->name);
}

static bool read_axis(const PickleValue *tuple, int64_t *out) {
    for (size_t i = 0; i < tuple->as.list.count; i++) {
        const PickleValue *size = tuple->as.list.items[i];
        if (size->kind != PICKLE_INT || size->as.integer < 0) return false;
        out[i] = size->as.integer;
    }
    return true;
}

/* _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks[, metadata]) */
static bool rebuild_tensor(Machine *m, const PickleValue *args) {
    PickleValue **item = args->as.list.items, *value = new_value(m, PICKLE_TENSOR);
    PickleTensor *tensor = value ? take(m, sizeof *tensor) : NULL;
    if (!tensor) return false;
    if (args->as.list.count < TENSOR_ITEMS || item[0]->kind != PICKLE_STORAGE || item[1]->kind != PICKLE_INT ||
        item[1]->as.integer < 0 || item[2]->kind != PICKLE_TUPLE || item[3]->kind != PICKLE_TUPLE ||
        item[2]->as.list.count != item[3]->as.list.count)
        return REFUSE(m, "a tensor is not described as torch.save describes it: the file is damaged");
    if (item[2]->as.list.count > PICKLE_DIMS_MAX)
        return REFUSE(m, "a tensor has %zu dimensions, at most %d can be read", item[2]->as.list.count,
                      PICKLE_DIMS_MAX);
    *tensor = (PickleTensor){
        .storage = item[0]->as.storage, .offset = item[1]->as.integer, .dims = (int)item[2]->as.list.count};
    if (!read_axis(item[2], tensor->shape) || !read_axis(item[3], tensor->stride))
        return REFUSE(m, "a tensor's sizes and strides must be integers of at least 0");
    value->as.tensor = tensor;
    return push(m, value);
}

static bool call(Machine *m) {
    PickleValue *args, *function;
    if (!pop(m, &args) || !pop(m, &function)) return false;
    if (function->kind != PICKLE_GLOBAL || args->kind != PICKLE_TUPLE)
        return REFUSE(m, "it calls what is no function: the file is damaged, or no tensor file");
    const PickleGlobal *global = function->as.global;
    switch (global->kind) {
    case GLOBAL_DICT:
        if (args->as.list.count == 0) return push(m, new_value(m, PICKLE_DICT));
        break;
    case GLOBAL_TENSOR:
        return rebuild_tensor(m, args);
    case GLOBAL_PARAMETER: /* (tensor, requires_grad, backward_hooks) */
        if (args->as.list.count >= 1 && args->as.list.items[0]->kind == PICKLE_TENSOR)
            return push(m, args->as.list.items[0]);
        break;
    case GLOBAL_STORAGE:
        break;
    }
    return REFUSE(m, "it calls %s.%s in a way torch.save never does: refused", global->module, global->name);
}

/* A storage: ("storage", type, key, location, count[, view]) */
static bool persistent(Machine *m) {
    PickleValue *id;
    if (!pop(m, &id)) return false;
    PickleValue **item = id->kind == PICKLE_TUPLE ? id->as.list.items : NULL;
    size_t count = item ? id->as.list.count : 0;
    const char *tag = count >= STORAGE_ID_ITEMS ? pickle_text(item[0]) : NULL;
    const char *key = tag ? pickle_text(item[2]) : NULL;
    if (!key || strcmp(tag, "storage") != 0 || item[1]->kind != PICKLE_GLOBAL ||
        item[1]->as.global->kind != GLOBAL_STORAGE || item[4]->kind != PICKLE_INT || item[4]->as.integer < 0)
        return REFUSE(m, "a storage is not described as torch.save describes it: the file is damaged");
    if (count > STORAGE_ID_ITEMS && item[5]->kind != PICKLE_NONE)
        return REFUSE(m, "a storage is a view of another, as only PyTorch before 0.4 wrote it");
    PickleValue *value = new_value(m, PICKLE_STORAGE);
    PickleStorage *storage = value ? take(m, sizeof *storage) : NULL;
    if (!storage) return false;
    *storage = (PickleStorage){.dtype = item[1]->as.global->dtype, .key = key, .count = item[4]->as.integer};
    value->as.storage = storage;
    return push(m, value);
}

/* State of an OrderedDict (a state_dict's _metadata): nothing that we need. */
static bool build(Machine *m) {
    PickleValue *state, *object;
    if (!pop(m, &state)) return false;
    return top(m, PICKLE_DICT, "a dict, the one object that may carry attributes,", &object);
}

/* ---- the machine ---- */

static bool protocol(Machine *m) {
    uint64_t version;
    if (!read_number(m, 1, &version)) return false;
    if (version < 2 || version > PROTOCOL_MAX)
        return REFUSE(m, "pickle protocol %d, expected 2 to %d", (int)version, PROTOCOL_MAX);
    return true;
}

static bool push_integer(Machine *m, size_t bytes) {
    uint64_t number;
    if (!read_number(m, bytes, &number)) return false;
    return push_number(m, bytes == 4 ? (int64_t)(int32_t)(uint32_t)number : (int64_t)number);
}

/* Opcodes of atoms and of the memo. `known` is false if it is none of them. */
static bool run_atom(Machine *m, unsigned char opcode, bool *known) {
    uint64_t frame;
    PickleValue *value;
    switch (opcode) {
    case 0x80:
        return protocol(m);
    case 0x95:
        return read_number(m, 8, &frame); /* FRAME: a hint for buffered readers */
    case 'N':
        return push(m, new_value(m, PICKLE_NONE));
    case 0x88:
        return push_truth(m, true);
    case 0x89:
        return push_truth(m, false);
    case 'J':
        return push_integer(m, 4);
    case 'K':
        return push_integer(m, 1);
    case 'M':
        return push_integer(m, 2);
    case 0x8a:
        return push_long(m, 1);
    case 0x8b:
        return push_long(m, 4);
    case 'G':
        return push_float(m);
    case 'X':
        return push_text(m, PICKLE_TEXT, 4);
    case 0x8c:
        return push_text(m, PICKLE_TEXT, 1);
    case 0x8d:
        return push_text(m, PICKLE_TEXT, 8);
    case 'T':
        return push_text(m, PICKLE_TEXT, 4); /* Python 2's str */
    case 'U':
        return push_text(m, PICKLE_TEXT, 1);
    case 'B':
        return push_text(m, PICKLE_BYTES, 4);
    case 'C':
        return push_text(m, PICKLE_BYTES, 1);
    case 'q':
        return memo_put_read(m, 1);
    case 'r':
        return memo_put_read(m, 4);
    case 0x94:
        return memo_put(m, m->memo_count);
    case 'h':
        return memo_get(m, 1);
    case 'j':
        return memo_get(m, 4);
    case '0':
        return pop(m, &value);
    }
    return *known = false;
}

static bool run_opcode(Machine *m, unsigned char opcode) {
    bool known = true, ok = run_atom(m, opcode, &known);
    if (known) return ok;
    switch (opcode) {
    case '(':
        return push(m, new_value(m, PICKLE_MARK));
    case ')':
        return push(m, new_value(m, PICKLE_TUPLE));
    case ']':
        return push(m, new_value(m, PICKLE_LIST));
    case '}':
        return push(m, new_value(m, PICKLE_DICT));
    case 't':
        return gather_marked(m, PICKLE_TUPLE);
    case 'l':
        return gather_marked(m, PICKLE_LIST);
    case 'd':
        return gather_marked(m, PICKLE_DICT);
    case 0x85:
        return gather_last(m, 1);
    case 0x86:
        return gather_last(m, 2);
    case 0x87:
        return gather_last(m, 3);
    case 'a':
        return add_last(m, PICKLE_LIST, 1);
    case 'e':
        return add_marked(m, PICKLE_LIST);
    case 's':
        return add_last(m, PICKLE_DICT, 2);
    case 'u':
        return add_marked(m, PICKLE_DICT);
    case 'c':
        return global_lines(m);
    case 0x93:
        return global_stacked(m);
    case 'i':
        return refuse_inst(m);
    case 'R':
        return call(m);
    case 'Q':
        return persistent(m);
    case 'b':
        return build(m);
    }
    return REFUSE(m, "opcode 0x%02x is none that torch.save writes for tensors: refused", opcode);
}

static bool run(Machine *m, const PickleValue **root) {
    for (;;) {
        m->opcode = m->at;
        const unsigned char *opcode;
        PickleValue *value;
        if (!bytes_left(m, 1, &opcode)) return false;
        if (*opcode == '.') {
            if (!pop(m, &value)) return false;
            *root = value;
            return true;
        }
        if (!run_opcode(m, *opcode)) return false;
    }
}

bool pickle_read(Pickle *pickle, const void *data, size_t size, const char *name, size_t *used, Error *err) {
    *pickle = (Pickle){0};
    Machine m = {.data = data, .size = size < PICKLE_LIMIT ? size : PICKLE_LIMIT, .name = name, .err = err};
    bool ok = run(&m, &pickle->root);
    free(m.stack);
    free(m.memo);
    pickle->blocks = m.blocks;
    *used = m.at;
    if (!ok) pickle_free(pickle);
    return ok;
}

void pickle_free(Pickle *pickle) {
    for (Block *block = pickle->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    *pickle = (Pickle){0};
}

const PickleValue *pickle_get(const PickleValue *dict, const char *key) {
    if (!dict || dict->kind != PICKLE_DICT) return NULL;
    const PickleValue *found = NULL;
    for (size_t i = 0; i + 1 < dict->as.list.count; i += 2) {
        const char *name = pickle_text(dict->as.list.items[i]);
        if (name && !strcmp(name, key)) found = dict->as.list.items[i + 1];
    }
    return found;
}

const char *pickle_text(const PickleValue *value) {
    if (!value || value->kind != PICKLE_TEXT || strlen(value->as.text.bytes) != value->as.text.length) return NULL;
    return value->as.text.bytes;
}
