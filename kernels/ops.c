/* The entry points: arguments are checked once, whatever the device, and handed to its kernel. */
#include "kernels/ops.h"

#include "kernels/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/device_impl.h"
#include "kernels/op_list.h"
#include "kernels/plan_impl.h"
#include "kernels/profile_impl.h"

#ifdef SEMOLLM_CUDA
#include "kernels/cuda/cuda.h"
#define ON_CUDA(name)                                                                                                  \
    if (dev->kind == DEVICE_CUDA) return cuda_##name(dev, a, err);
#else
#define ON_CUDA(name)
#endif

#define DISPATCH(Name, name)                                                                                           \
    static bool run_##name(Device *dev, const Name##Args *a, Error *err) {                                             \
        ON_CUDA(name)                                                                                                  \
        cpu_enter(dev);                                                                                                \
        return cpu_##name(dev, a, err);                                                                                \
    }                                                                                                                  \
    bool op_##name(Device *dev, const Name##Args *a, Error *err) {                                                     \
        if (!check_##name(dev, a, err)) return false;                                                                  \
        if (dev->plan) return plan_##name(dev, a, err);                                                                \
        if (!dev->profile) return run_##name(dev, a, err);                                                             \
        static const char op[] = #name;                                                                                \
        return profile_op_begin(dev, op, err) && run_##name(dev, a, err) && profile_op_end(dev, err);                  \
    }
OP_LIST(DISPATCH)
