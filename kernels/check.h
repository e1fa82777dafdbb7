/* Whether an op's arguments have the shapes, dtypes and parts ops.h asks for; the error names the op
 * and the tensor. Tensors without elements may have null data, as an arena hands out for them. */
#ifndef SEMOLLM_KERNELS_CHECK_H
#define SEMOLLM_KERNELS_CHECK_H

#include "kernels/op_list.h"
#include "kernels/ops.h"

#define CHECK(Name, name) bool check_##name(const Device *dev, const Name##Args *a, Error *err);
OP_LIST(CHECK)
#undef CHECK

#endif
