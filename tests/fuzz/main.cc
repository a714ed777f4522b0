// libFuzzer's way into one target, whose name is in CKPT_FUZZ_TARGET.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "google/protobuf/stubs/logging.h"
#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  google::protobuf::SetLogHandler(nullptr);  // it writes a line for each bad string
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  static const char* const name = std::getenv("CKPT_FUZZ_TARGET");
  static const ckpt::fuzz::Target* const target = ckpt::fuzz::FindTarget(name ? name : "");
  if (target == nullptr) {
    std::fprintf(stderr, "CKPT_FUZZ_TARGET must be one of:");
    for (const auto& known : ckpt::fuzz::Targets()) std::fprintf(stderr, " %s", known.name);
    std::fprintf(stderr, "\n");
    std::exit(2);
  }
  target->run({reinterpret_cast<const char*>(data), bytes});
  return 0;
}
