#include "common/header_region.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "common/safetensors.h"
#include "sample_layout.h"

namespace ckpt {
namespace {

CheckpointId IdOfHeader() {
  return {"team/run", 1200,
          Incarnation::FromHex("000102030405060708090a0b0c0d0e0f", "incarnation").value()};
}

// The sample, and names in which something is escaped.
std::shared_ptr<const PartLayout> LayoutOfManyNames() {
  v1::Layout layout = SampleLayout();
  for (const char* name : {"quote\"back\\slash", "new\nline\x01", "caf\xc3\xa9", "__metadata__"}) {
    AddShard(static_cast<uint32_t>(layout.leaves_size()), {{1, 0}, {2, 1000}}, layout);
    *layout.add_leaves() = TensorNamed(name, v1::DTYPE_C64, {12, 1000}, v1::PLACEMENT_SHARDED);
  }
  return PartLayout::FromProto(layout).value();
}

TEST(HeaderRegionTest, IsTheSameInPiecesOfAnySize) {
  const auto layout = LayoutOfManyNames();
  v1::Values values;
  values.add_entries()->set_leaf(6);
  values.mutable_entries(0)->mutable_value()->set_text("a \"text\"");
  const HeaderRegion region(*layout, 0, values, IdOfHeader(), 1, 4);
  const std::string whole = MakeHeaderRegion(*layout, 0, values, IdOfHeader(), 1, 4);
  EXPECT_EQ(region.size(), whole.size());
  EXPECT_TRUE(ParseSafetensorsHeader(whole, whole.size() + layout->files()[0].length).ok());
  for (const size_t piece_bytes : {1, 2, 3, 7, 19, 20, 21, 64, 1000, 4096, 1 << 20}) {
    std::string piece(piece_bytes, '\0');
    std::string text;
    const absl::Status written = region.Write(
        [&]() -> absl::StatusOr<absl::Span<char>> {
          return absl::MakeSpan(piece).first(std::min(piece.size(), whole.size() - text.size()));
        },
        [&](absl::Span<const char> filled) {
          EXPECT_EQ(filled.data(), piece.data());
          text.append(filled.data(), filled.size());
        });
    ASSERT_TRUE(written.ok()) << written;
    ASSERT_EQ(text, whole) << piece_bytes;
  }
}

TEST(HeaderRegionTest, EndsWithTheFirstErrorOfItsReader) {
  const auto layout = LayoutOfManyNames();
  const HeaderRegion region(*layout, 0, {}, IdOfHeader(), 1, 4);
  std::string piece(100, '\0');
  int asked = 0;
  size_t filled = 0;
  const absl::Status written = region.Write(
      [&]() -> absl::StatusOr<absl::Span<char>> {
        if (++asked == 3) return absl::ResourceExhaustedError("no more");
        return absl::MakeSpan(piece);
      },
      [&](absl::Span<const char> span) { filled += span.size(); });
  EXPECT_TRUE(absl::IsResourceExhausted(written)) << written;
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(filled, 200u);
}

}  // namespace
}  // namespace ckpt
