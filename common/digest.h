// Hashes: XXH3-64 for blocks (compiled inline with a run-time choice of instruction set: the
// packaged library is half as fast), CRC-32C for stream chunks, SHA-256 for names of content that a
// client could forge.
#ifndef CKPT_COMMON_DIGEST_H_
#define CKPT_COMMON_DIGEST_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace ckpt {

uint64_t Xxh3(const void* data, size_t bytes);
inline uint64_t Xxh3(absl::string_view bytes) { return Xxh3(bytes.data(), bytes.size()); }

// XXH3-128 in its canonical (big-endian) form, 16 bytes: the checksum of envelopes.
std::string Xxh3Canonical128(absl::string_view bytes);

// XXH3 of what comes in pieces. Not thread-safe; reusable after Reset.
class Xxh3Stream {
 public:
  Xxh3Stream();
  ~Xxh3Stream();
  Xxh3Stream(Xxh3Stream&&) noexcept;
  Xxh3Stream& operator=(Xxh3Stream&&) noexcept;
  void Reset();
  void Update(const void* data, size_t bytes);
  void Update(absl::string_view bytes) { Update(bytes.data(), bytes.size()); }
  uint64_t Digest() const;                // as Xxh3 of all so far
  std::string DigestCanonical128() const;  // as Xxh3Canonical128

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// CRC-32C (Castagnoli, RFC 3720), hardware where there is any. `crc` continues an earlier value;
// start with 0.
uint32_t Crc32c(uint32_t crc, const void* data, size_t bytes);
inline uint32_t Crc32c(absl::string_view bytes) { return Crc32c(0, bytes.data(), bytes.size()); }

namespace internal {
// What Crc32c falls back to. For tests.
uint32_t Crc32cSoftware(uint32_t crc, const void* data, size_t bytes);
}  // namespace internal

// 32 raw bytes.
std::string Sha256(absl::string_view bytes);

// The name of the instruction set that Xxh3 uses, for status and benchmarks: "avx512", "avx2",
// "sse2", "neon", "scalar".
absl::string_view Xxh3InstructionSet();

}  // namespace ckpt

#endif  // CKPT_COMMON_DIGEST_H_
