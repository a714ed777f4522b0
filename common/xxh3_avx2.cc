// XXH3 with AVX2. Compiled with -mavx2.
#define CKPT_XXH3_NAME "avx2"
#define XXH_VECTOR 2  // XXH_AVX2
#define CKPT_XXH3_KERNEL kXxh3Avx2
#include "common/xxh3_kernel.inc"
