// The quota file, as people write it.
#include "server/quota/quota_file.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

TEST(QuotaFile, SectionsInTheirOrder) {
  const auto sections = ParseQuotaFile(
      "# tenants\n[team-a/**]\ndisk-bytes = 2TiB\nmemory-bytes=8GiB\ncheckpoints = 1000\n"
      "open-saves = 4\n\n[**]\n  open-saves = 2\n[never]\n",
      "f");
  ASSERT_TRUE(sections.ok()) << sections.status();
  ASSERT_EQ(sections->size(), 3u);
  const QuotaSection& first = sections->front();
  EXPECT_EQ(first.pattern.text(), "team-a/**");
  EXPECT_EQ(first.where, "f:2 [team-a/**]");
  EXPECT_EQ(first.limits.disk_bytes, uint64_t{2} << 40);
  EXPECT_EQ(first.limits.memory_bytes, uint64_t{8} << 30);
  EXPECT_EQ(first.limits.checkpoints, 1000u);
  EXPECT_EQ(first.limits.open_saves, 4u);
  EXPECT_EQ((*sections)[1].limits.open_saves, 2u);
  EXPECT_EQ((*sections)[1].limits.disk_bytes, 0u);
  EXPECT_EQ((*sections)[2].limits.open_saves, 0u);

  const Quotas quotas(*sections);
  EXPECT_EQ(quotas.SectionOf("team-a/x/y"), 0u);
  EXPECT_EQ(quotas.SectionOf("team-b"), 1u);
  EXPECT_EQ(quotas.SectionOf("never"), 1u) << "the first that matches holds";
  EXPECT_EQ(Quotas().SectionOf("team-a/x"), std::nullopt);
}

TEST(QuotaFile, WhatIsWrongIsNamedWithItsLine) {
  for (const auto& [text, error] : std::vector<std::pair<std::string, std::string>>{
           {"checkpoints = 3", "f:1: a rule before the first section"},
           {"[a]\nchekpoints = 3", "f:2: no quota 'chekpoints'; there are disk-bytes"},
           {"[a]\ncheckpoints = 0", "f:2: checkpoints: expected a number from 1"},
           {"[a]\nopen-saves = many", "f:2: open-saves: expected a number from 1, got 'many'"},
           {"[a]\ndisk-bytes = 0", "f:2: disk-bytes: expected a size of at least 1 B"},
           {"[a]\ndisk-bytes = 5 apples", "f:2: disk-bytes: "},
           {"[a]\nmemory-bytes = 64KiB", "f:2: memory-bytes: expected a size of at least 1.0 MiB"},
           {"[a]\nopen-saves = 3\nopen-saves = 4", "f:3: open-saves is given twice"},
           {"[a]\n[a]", "f:2: a second section [a]"}}) {
    const auto sections = ParseQuotaFile(text, "f");
    EXPECT_EQ(sections.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(sections.status().message()), HasSubstr(error));
  }
  EXPECT_THAT(std::string(ReadQuotaFile("/nowhere/quota.conf").status().message()),
              HasSubstr("--quota-file: /nowhere/quota.conf cannot be read"));
}

}  // namespace
}  // namespace ckpt
