// XXH3 for what every machine of this architecture has.
#if defined(__x86_64__)
#define CKPT_XXH3_NAME "sse2"
#define XXH_VECTOR 1  // XXH_SSE2
#elif defined(__aarch64__)
#define CKPT_XXH3_NAME "neon"
#else
#define CKPT_XXH3_NAME "scalar"
#endif
#define CKPT_XXH3_KERNEL kXxh3Baseline
#include "common/xxh3_kernel.inc"
