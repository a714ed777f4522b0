#include "client/save/part_bytes.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "common/key.h"
#include "gtest/gtest.h"

namespace ckpt {
namespace {

// Tensors of awkward sizes: dense, by callback, and early ones.
class PartBytesTest : public testing::Test {
 protected:
  void SetUp() override {
    for (size_t i = 0; i < 12; ++i) {
      std::string& bytes = sources_.emplace_back();
      for (size_t b = 0; b < 1 + i * 977; ++b) bytes.push_back(static_cast<char>(b * 31 + i));
    }
  }
  Part MakePart() {
    Part part;
    for (size_t i = 0; i < sources_.size(); ++i) {
      std::string* bytes = &sources_[i];
      PartLeaf leaf = TensorLeaf(MakeKey({"t" + std::to_string(i)}), v1::DTYPE_U8, {bytes->size()},
                                 bytes->data(), v1::PLACEMENT_PER_RANK);
      if (i % 3 == 1) {
        leaf.data = nullptr;
        leaf.copy = [bytes](uint64_t begin, uint64_t count, std::byte* out) {
          std::memcpy(out, bytes->data() + begin, count);
        };
      }
      leaf.copy_early = i % 4 == 0;
      part.leaves.push_back(std::move(leaf));
    }
    return part;
  }
  PartBytes Make(bool snapshot_early) {
    Part part = MakePart();
    auto structure = MakePartStructure(part);
    structure_ = std::make_shared<const PartStructure>(*std::move(structure));
    return PartBytes(std::move(part), structure_, snapshot_early);
  }
  // What the part must contain, by the layout alone.
  std::string Expected(const std::vector<std::string>& sources) {
    std::string bytes(structure_->layout->part_bytes(), '\0');
    for (size_t i = 0; i < structure_->sources.size(); ++i) {
      bytes.replace(structure_->layout->shards()[i].part_offset,
                    structure_->layout->shards()[i].length, sources[structure_->sources[i].leaf]);
    }
    return bytes;
  }
  static std::string Read(const PartBytes& bytes, uint64_t begin, uint64_t count, bool streaming) {
    std::string out(count, '?');
    bytes.CopyRange(begin, count, reinterpret_cast<std::byte*>(out.data()), streaming);
    return out;
  }

  std::vector<std::string> sources_;
  std::shared_ptr<const PartStructure> structure_;
};

TEST_F(PartBytesTest, AnyRangeIsTheSameAsThatOfTheWhole) {
  const PartBytes bytes = Make(false);
  const std::string whole = Expected(sources_);
  for (const uint64_t step : {1u << 20, 4096u, 1000u, 7u}) {
    for (const bool streaming : {true, false}) {
      std::string joined;
      for (uint64_t at = 0; at < whole.size(); at += step) {
        joined += Read(bytes, at, std::min<uint64_t>(step, whole.size() - at), streaming);
      }
      EXPECT_EQ(joined, whole) << step;
    }
  }
}

TEST_F(PartBytesTest, PiecesAreTheSourcesOwnMemoryWhereTheyHaveOne) {
  const PartBytes bytes = Make(false);
  const std::string whole = Expected(sources_);
  std::string joined;
  uint64_t in_place = 0;
  for (uint64_t at = 0; at < whole.size();) {
    const DataSource::Piece piece = bytes.PieceAt(at, std::min<uint64_t>(1500, whole.size() - at));
    ASSERT_GT(piece.bytes, 0u);
    ASSERT_LE(piece.bytes, 1500u);
    if (piece.data == nullptr) {
      joined += Read(bytes, at, piece.bytes, false);
    } else {
      joined.append(reinterpret_cast<const char*>(piece.data), piece.bytes);
      in_place += piece.bytes;
    }
    at += piece.bytes;
  }
  EXPECT_EQ(joined, whole);
  uint64_t dense = 0;
  for (size_t i = 0; i < sources_.size(); ++i) dense += i % 3 == 1 ? 0 : sources_[i].size();
  EXPECT_EQ(in_place, dense);
}

TEST_F(PartBytesTest, EarlyLeavesAreTakenAtOnceOthersLater) {
  const PartBytes bytes = Make(true);
  std::vector<std::string> expected = sources_;
  for (size_t i = 0; i < sources_.size(); ++i) {
    std::fill(sources_[i].begin(), sources_[i].end(), '!');  // the trainer goes on
    if (i % 4 != 0) expected[i] = sources_[i];
  }
  EXPECT_EQ(Read(bytes, 0, bytes.part_bytes(), true), Expected(expected));
}

}  // namespace
}  // namespace ckpt
