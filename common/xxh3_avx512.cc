// XXH3 with AVX-512F. Compiled with -mavx512f.
#define CKPT_XXH3_NAME "avx512"
#define XXH_VECTOR 3  // XXH_AVX512
#define CKPT_XXH3_KERNEL kXxh3Avx512
#include "common/xxh3_kernel.inc"
