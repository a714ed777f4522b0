// The arithmetic of quotas.
#include "server/quota/quotas.h"

#include <cstdint>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ckpt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

QuotaSection Section(QuotaAmounts limits) {
  return {*RunPattern::Parse("team/**"), limits, "f:1 [team/**]"};
}

std::string Refusal(const absl::Status& status) {
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  return std::string(status.message());
}

TEST(QuotasTest, WithoutALimitAnythingGoes) {
  const QuotaAmounts much{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
  EXPECT_TRUE(AdmitCheckpoint(Section({}), much, 1).ok());
  EXPECT_TRUE(AdmitPart(Section({}), much, UINT64_MAX).ok());
  const MemoryShare share = ShareMemory(Section({}), UINT64_MAX, 7, true);
  EXPECT_EQ(share.bytes, 7u);
  EXPECT_FALSE(share.ring);
}

TEST(QuotasTest, CountsUpToTheLimitAreLetIn) {
  const QuotaSection section = Section({.checkpoints = 3, .open_saves = 2});
  EXPECT_TRUE(AdmitCheckpoint(section, {.checkpoints = 2, .open_saves = 1}, 1).ok());
  EXPECT_THAT(Refusal(AdmitCheckpoint(section, {.checkpoints = 3, .open_saves = 1}, 1)),
              AllOf(HasSubstr("quota checkpoints of section [team/**]"), HasSubstr("limit is 3"),
                    HasSubstr("3 are committed")));
  EXPECT_TRUE(AdmitCheckpoint(section, {.checkpoints = 3, .open_saves = 1}, 0).ok())
      << "it takes the place of another";
  EXPECT_THAT(Refusal(AdmitCheckpoint(section, {.checkpoints = 2, .open_saves = 2}, 0)),
              AllOf(HasSubstr("quota open-saves of section [team/**]"), HasSubstr("limit is 2"),
                    HasSubstr("2 checkpoints are being saved")));
}

TEST(QuotasTest, BytesUpToTheLimitAreLetIn) {
  const QuotaSection section = Section({.disk_bytes = 10 * kMiB});
  EXPECT_TRUE(AdmitPart(section, {.disk_bytes = 6 * kMiB}, 4 * kMiB).ok());
  EXPECT_THAT(Refusal(AdmitPart(section, {.disk_bytes = 6 * kMiB}, 4 * kMiB + 1)),
              AllOf(HasSubstr("quota disk-bytes of section [team/**]"), HasSubstr("10.0 MiB"),
                    HasSubstr("6.0 MiB are committed"), HasSubstr("4.0 MiB more")));
  EXPECT_FALSE(AdmitPart(section, {}, UINT64_MAX).ok());
  EXPECT_FALSE(AdmitPart(section, {.disk_bytes = 11 * kMiB}, 0).ok()) << "the limit was lowered";
  EXPECT_TRUE(AdmitCheckpoint(section, {.disk_bytes = 10 * kMiB - 1}, 1).ok());
  EXPECT_THAT(Refusal(AdmitCheckpoint(section, {.disk_bytes = 10 * kMiB}, 1)),
              HasSubstr("disk-bytes"));
}

TEST(QuotasTest, MemoryIsSharedOut) {
  const QuotaSection section = Section({.memory_bytes = 16 * kMiB});
  const auto share = [&section](uint64_t used, uint64_t part, bool rather_ring = false) {
    return ShareMemory(section, used, part, rather_ring);
  };
  EXPECT_EQ(share(12 * kMiB, 4 * kMiB).bytes, 4 * kMiB);
  EXPECT_FALSE(share(12 * kMiB, 4 * kMiB).ring);
  EXPECT_EQ(share(12 * kMiB, 4 * kMiB + 1).bytes, 0u) << "there will be room";
  EXPECT_EQ(share(13 * kMiB, 4 * kMiB, true).bytes, 3 * kMiB);
  EXPECT_TRUE(share(13 * kMiB, 4 * kMiB, true).ring);
  // Larger than the quota: never whole, and several at once.
  EXPECT_EQ(share(0, 17 * kMiB).bytes, 4 * kMiB);
  EXPECT_TRUE(share(0, 17 * kMiB).ring);
  EXPECT_EQ(share(14 * kMiB, 17 * kMiB).bytes, 2 * kMiB);
  EXPECT_EQ(share(16 * kMiB, 17 * kMiB).bytes, 0u);
  EXPECT_EQ(share(16 * kMiB - 5000, 17 * kMiB).bytes, 0u) << "too little for a ring";
  EXPECT_EQ(share(20 * kMiB, 1).bytes, 0u) << "adopted parts may hold more than the quota";
  EXPECT_THAT(Refusal(MemoryUsedUp(section, 12 * kMiB, 5 * kMiB)),
              AllOf(HasSubstr("quota memory-bytes of section [team/**]"), HasSubstr("16.0 MiB"),
                    HasSubstr("12.0 MiB are held"), HasSubstr("5.0 MiB")));
}

}  // namespace
}  // namespace ckpt
