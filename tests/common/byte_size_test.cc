#include "common/byte_size.h"

#include <gtest/gtest.h>

namespace ckpt {
namespace {

TEST(ByteSizeTest, Parses) {
  const std::pair<const char*, uint64_t> cases[] = {
      {"0", 0},
      {"512", 512},
      {"512 B", 512},
      {"64KiB", 65536},
      {"4GiB", uint64_t{4} << 30},
      {" 4 gib ", uint64_t{4} << 30},
      {"4Gi", uint64_t{4} << 30},
      {"4GB", 4000000000},
      {"1.5TiB", (uint64_t{3} << 40) / 2},
      {"0.1KB", 100},
      {"18446744073709551615", UINT64_MAX},
  };
  for (const auto& [text, bytes] : cases) {
    const auto parsed = ParseByteSize(text);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, bytes) << text;
  }
}

TEST(ByteSizeTest, RefusesAndGivesAnExample) {
  for (const char* text : {"", "GiB", "-1", "1.5", "1.5B", "4 parsecs", "4G4", "1..5KiB", "1e9",
                           "18446744073709551616", "16777216TiB",
                           "99999999999999999999999999999GiB", "0x10", "4GiB4"}) {
    const auto parsed = ParseByteSize(text);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_NE(parsed.status().message().find("4GiB"), absl::string_view::npos);
  }
}

TEST(ByteSizeTest, Prints) {
  EXPECT_EQ(PrintByteSize(0), "0 B");
  EXPECT_EQ(PrintByteSize(1023), "1023 B");
  EXPECT_EQ(PrintByteSize(1024), "1.0 KiB");
  EXPECT_EQ(PrintByteSize(1536), "1.5 KiB");
  EXPECT_EQ(PrintByteSize((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(PrintByteSize(uint64_t{4} << 30), "4.0 GiB");
  EXPECT_EQ(PrintByteSize(UINT64_MAX), "16.0 EiB");
}

}  // namespace
}  // namespace ckpt
