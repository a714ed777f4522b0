#include "common/digest.h"

#include <openssl/evp.h>

#include <cstring>

#include "common/xxh3_kernel.h"

namespace ckpt {
namespace {

using internal::Xxh3Kernel;

const Xxh3Kernel& Kernel() {
#if defined(__x86_64__)
  static const Xxh3Kernel& kernel = []() -> const Xxh3Kernel& {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("bmi2")) {
      return internal::kXxh3Avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) {
      return internal::kXxh3Avx2;
    }
    return internal::kXxh3Baseline;
  }();
  return kernel;
#else
  return internal::kXxh3Baseline;
#endif
}

}  // namespace

uint64_t Xxh3(const void* data, size_t bytes) { return Kernel().hash64(data, bytes); }

std::string Xxh3Canonical128(absl::string_view bytes) {
  unsigned char out[16];
  Kernel().hash128(bytes.data(), bytes.size(), out);
  return std::string(reinterpret_cast<const char*>(out), sizeof(out));
}

struct Xxh3Stream::State {
  alignas(internal::kXxh3StateAlignment) unsigned char bytes[internal::kXxh3StateBytes];
};

Xxh3Stream::Xxh3Stream() : state_(std::make_unique<State>()) { Reset(); }
Xxh3Stream::~Xxh3Stream() = default;
Xxh3Stream::Xxh3Stream(Xxh3Stream&&) noexcept = default;
Xxh3Stream& Xxh3Stream::operator=(Xxh3Stream&&) noexcept = default;
void Xxh3Stream::Reset() {
  std::memset(state_->bytes, 0, sizeof(state_->bytes));
  Kernel().reset(state_->bytes);
}
void Xxh3Stream::Update(const void* data, size_t bytes) {
  if (bytes > 0) Kernel().update(state_->bytes, data, bytes);
}
uint64_t Xxh3Stream::Digest() const { return Kernel().digest(state_->bytes); }
std::string Xxh3Stream::DigestCanonical128() const {
  unsigned char out[16];
  Kernel().digest128(state_->bytes, out);
  return std::string(reinterpret_cast<const char*>(out), sizeof(out));
}

absl::string_view Xxh3InstructionSet() { return Kernel().name; }

std::string Sha256(absl::string_view bytes) {
  std::string out(32, '\0');
  unsigned int length = 0;
  EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(out.data()), &length,
             EVP_sha256(), nullptr);
  return out;
}

}  // namespace ckpt
