#include "common/digest.h"

#include <gtest/gtest.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <random>

#include "common/ids.h"
#include "common/xxh3_kernel.h"

namespace ckpt {
namespace {

std::string RandomText(size_t bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string text(bytes, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

// Every length at which XXH3 changes its way, and some beyond.
std::vector<size_t> Lengths() {
  std::vector<size_t> lengths;
  for (size_t i = 0; i < 300; ++i) lengths.push_back(i);
  for (const size_t i : {511, 512, 1023, 1024, 1025, 4096, 65537, 1 << 20}) lengths.push_back(i);
  return lengths;
}

std::vector<const internal::Xxh3Kernel*> Kernels() {
  std::vector<const internal::Xxh3Kernel*> kernels = {&internal::kXxh3Baseline};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) kernels.push_back(&internal::kXxh3Avx2);
  if (__builtin_cpu_supports("avx512f")) kernels.push_back(&internal::kXxh3Avx512);
#endif
  return kernels;
}

TEST(DigestTest, EveryKernelEqualsThePackagedLibrary) {
  const std::string text = RandomText((1 << 20) + 1, 1);
  for (const internal::Xxh3Kernel* kernel : Kernels()) {
    SCOPED_TRACE(kernel->name);
    for (const size_t length : Lengths()) {
      for (const size_t shift : {0, 1}) {  // not aligned either
        const char* data = text.data() + shift;
        ASSERT_EQ(kernel->hash64(data, length), XXH3_64bits(data, length)) << length;
        unsigned char canonical[16];
        kernel->hash128(data, length, canonical);
        XXH128_canonical_t expected;
        XXH128_canonicalFromHash(&expected, XXH3_128bits(data, length));
        ASSERT_EQ(memcmp(canonical, expected.digest, 16), 0) << length;
      }
    }
  }
}

TEST(DigestTest, StreamEqualsOneShotHoweverItIsCut) {
  const std::string text = RandomText(100000, 2);
  std::mt19937_64 random(3);
  Xxh3Stream stream;
  for (int round = 0; round < 200; ++round) {
    const size_t length = random() % text.size();
    stream.Reset();
    for (size_t at = 0; at < length;) {
      const size_t piece = std::min<size_t>(length - at, random() % (round % 2 == 0 ? 300 : 9000));
      stream.Update(text.data() + at, piece);
      at += piece;
    }
    ASSERT_EQ(stream.Digest(), Xxh3(text.data(), length));
    ASSERT_EQ(stream.Digest(), Xxh3(text.data(), length)) << "asking does not change it";
  }
  stream.Reset();
  EXPECT_EQ(stream.Digest(), Xxh3("", 0));
  Xxh3Stream moved = std::move(stream);
  moved.Update("abc", 3);
  EXPECT_EQ(moved.Digest(), Xxh3("abc"));
}

TEST(DigestTest, Crc32cKnownValues) {  // RFC 3720, B.4
  EXPECT_EQ(Crc32c(""), 0u);
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
}

TEST(DigestTest, Crc32cHardwareEqualsSoftwareAndContinues) {
  const std::string text = RandomText(200000, 4);
  std::mt19937_64 random(5);
  for (int round = 0; round < 300; ++round) {
    const size_t begin = random() % 1000;
    const size_t length = random() % (round % 3 == 0 ? 199000 : 2000);
    const char* data = text.data() + begin;
    const uint32_t expected = internal::Crc32cSoftware(0, data, length);
    ASSERT_EQ(Crc32c(0, data, length), expected) << length;
    const size_t cut = length == 0 ? 0 : random() % length;
    ASSERT_EQ(Crc32c(Crc32c(0, data, cut), data + cut, length - cut), expected);
  }
}

TEST(DigestTest, Sha256KnownValues) {
  EXPECT_EQ(internal::Hex(Sha256("")),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(internal::Hex(Sha256("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(DigestTest, NamesAnInstructionSetOfThisMachine) {
  bool known = false;
  for (const internal::Xxh3Kernel* kernel : Kernels())
    known |= Xxh3InstructionSet() == kernel->name;
  EXPECT_TRUE(known) << Xxh3InstructionSet();
}

}  // namespace
}  // namespace ckpt
